using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading;

namespace LibXai
{
    /// <summary>How a map is scaled to [0, 1].</summary>
    public enum Scaling
    {
        /// <summary>By its maximum: 0 keeps its meaning, no positive evidence.</summary>
        Max = Constants.XAI_SCALING_MAX,
        /// <summary>From its minimum to its maximum, as pytorch-grad-cam does.</summary>
        MinMax = Constants.XAI_SCALING_MIN_MAX
    }

    /// <summary>What an explainer does. A copy is taken when the explainer is made.</summary>
    public sealed class ExplainerOptions
    {
        private readonly Dictionary<string, object> named = new Dictionary<string, object>();

        /// <summary>
        /// An option of the method: a number, a text, a <see cref="Tensor"/>, or a Tensor[] with one an input of the model (null
        /// for an input without). Names, defaults and kinds: <see cref="MethodDescription.Options"/>. They are checked when the
        /// explainer is made. null = the default.
        /// </summary>
        /// <param name="name">Such as "samples", "seed", "baseline", "background" or "segments".</param>
        public object this[string name]
        {
            get
            {
                object value;
                return named.TryGetValue(name, out value) ? value : null;
            }
            set
            {
                if (name == null)
                    throw new ArgumentNullException(nameof(name));
                if (value == null)
                    named.Remove(name);
                else
                    named[name] = value;
            }
        }

        /// <summary>For the CAM methods: name of an ONNX value or node, or a layer's number as text; null = the default.</summary>
        public string Layer { get; set; }

        /// <summary>Raw, logit or probability.</summary>
        public ScoreKind Score { get; set; }

        /// <summary>How a map is scaled to [0, 1].</summary>
        public Scaling Scaling { get; set; }

        /// <summary>Threads, memory limit and the like; null = the defaults.</summary>
        public SessionOptions Session { get; set; }

        internal static ExplainerOptionsHandle Open(ExplainerOptions options, Watch watch)
        {
            options = options ?? new ExplainerOptions();
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            XaiException.Check(Native.xai_explainer_options_create(made, error), error);
            var handle = new ExplainerOptionsHandle(made[0], true);
            try
            {
                byte[] layer = Utf8.Encode(options.Layer, "layer");
                XaiException.Check(Native.xai_explainer_options_set_layer(handle, layer, error), error);
                XaiException.Check(Native.xai_explainer_options_set_score(handle, (int)options.Score, error), error);
                XaiException.Check(Native.xai_explainer_options_set_scaling(handle, (int)options.Scaling, error), error);
                foreach (KeyValuePair<string, object> each in options.named)
                    Set(handle, each.Key, each.Value, error);
                using (SessionOptionsHandle session = SessionOptions.Open(options.Session, watch))
                    XaiException.Check(Native.xai_explainer_options_set_session(handle, session, error), error);
                return handle;
            }
            catch
            {
                handle.Dispose();
                throw;
            }
        }

        private static void Set(ExplainerOptionsHandle handle, string name, object value, IntPtr[] error)
        {
            byte[] key = Utf8.Encode(name, "option");
            string text = value as string;
            Tensor[] tensors = value as Tensor[] ?? (value is Tensor ? new[] { (Tensor)value } : null);
            if (text != null)
            {
                XaiException.Check(Native.xai_explainer_options_set_text(handle, key, Utf8.Encode(text, name), error), error);
            }
            else if (tensors != null)
            {
                for (int i = 0; i < tensors.Length; i++)
                    if (tensors[i] != null)
                        using (LentTensor.LentList lent = LentTensor.LendAll(new[] { tensors[i] }))
                            XaiException.Check(Native.xai_explainer_options_set_tensor(handle, key, (UIntPtr)(uint)i,
                                lent.Handle(0), error), error);
            }
            else if (value is IConvertible && !(value is bool) && !(value is char) && !(value is DateTime))
            {
                double number = Convert.ToDouble(value, CultureInfo.InvariantCulture);
                XaiException.Check(Native.xai_explainer_options_set_number(handle, key, number, error), error);
            }
            else
            {
                throw new XaiException(Status.Argument, name + ": a number, a text or a tensor is needed, not " +
                    value.GetType().Name, name);
            }
        }
    }

    /// <summary>
    /// A method bound to a model, for any number of inputs. Serves one call at a time: make one for each thread.
    /// </summary>
    public sealed class Explainer : IDisposable
    {
        private readonly ExplainerHandle handle;
        private readonly Watch watch = new Watch();

        /// <summary>Make an explainer.</summary>
        /// <param name="model">May be disposed before the explainer.</param>
        /// <param name="method">A name of <see cref="Library.Methods"/>.</param>
        /// <param name="options">null = the defaults.</param>
        /// <exception cref="XaiException">Status NotFound for an unknown method or layer; Argument; Memory.</exception>
        public Explainer(Model model, string method, ExplainerOptions options = null)
        {
            if (model == null)
                throw new ArgumentNullException(nameof(model));
            if (method == null)
                throw new ArgumentNullException(nameof(method));
            Method = method;
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            using (ExplainerOptionsHandle settings = ExplainerOptions.Open(options, watch))
                XaiException.Check(
                    Native.xai_explainer_create(model.Handle, Utf8.Encode(method, nameof(method)), settings, made, error), error);
            handle = new ExplainerHandle(made[0], true);
        }

        /// <summary>Name of the method.</summary>
        public string Method { get; }

        /// <summary>Explain the input of a model that has one input.</summary>
        /// <param name="input">(N, C, H, W) in the range that the model was trained on.</param>
        /// <param name="target">A label, an index, or another target; null = the highest score of each row.</param>
        /// <param name="progress">Takes reports, on any thread; may be null.</param>
        /// <param name="cancellationToken">Stops the call.</param>
        /// <returns>The explanation, to be disposed.</returns>
        /// <exception cref="XaiException">
        /// Status Shape when the input does not fit the model; NotFound for an unknown label or index; Numeric for a NaN or
        /// infinity; Unsupported; Memory.
        /// </exception>
        /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
        /// <exception cref="InvalidOperationException">The explainer is in use by another thread.</exception>
        public Explanation Explain(Tensor input, Target target = null, IProgress<ProgressReport> progress = null,
            CancellationToken cancellationToken = default(CancellationToken))
        {
            return Explain(new[] { input }, new[] { target }, progress, cancellationToken)[0];
        }

        /// <summary>Explain several targets of the same input: one forward pass a row for all of them.</summary>
        /// <param name="inputs">One tensor (N, ...) an input of the model.</param>
        /// <param name="targets">One or more; null = the highest score of each row.</param>
        /// <param name="progress">Takes reports, on any thread; may be null.</param>
        /// <param name="cancellationToken">Stops the call.</param>
        /// <returns>One explanation a target, each to be disposed.</returns>
        /// <exception cref="XaiException">As for one target.</exception>
        /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
        public Explanation[] Explain(Tensor[] inputs, Target[] targets, IProgress<ProgressReport> progress = null,
            CancellationToken cancellationToken = default(CancellationToken))
        {
            if (targets == null)
                throw new ArgumentNullException(nameof(targets));
            var results = new IntPtr[targets.Length];
            using (LentTensor.LentList lent = LentTensor.LendAll(inputs))
            using (HandleList made = Target.OpenAll(targets))
                watch.Run(error => Native.xai_explainer_explain_targets(handle, lent.Pointers, lent.Count, made.Pointers,
                    made.Count, results, error), progress, cancellationToken);
            var handles = new ExplanationHandle[results.Length]; // first all of them: they free themselves, whatever follows
            for (int i = 0; i < results.Length; i++)
                handles[i] = new ExplanationHandle(results[i], true);
            var explanations = new Explanation[results.Length];
            for (int i = 0; i < results.Length; i++)
                explanations[i] = new Explanation(handles[i]);
            return explanations;
        }

        /// <summary>Give the explainer back. Its explanations live on.</summary>
        public void Dispose()
        {
            handle.Dispose();
        }
    }
}
