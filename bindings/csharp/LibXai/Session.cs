using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;

namespace LibXai
{
    /// <summary>What the threads of a session do.</summary>
    public enum Mode
    {
        /// <summary>All work on one row: the shortest time to the first result.</summary>
        Latency = Constants.XAI_MODE_LATENCY,
        /// <summary>A row a thread: the most rows a second, more memory.</summary>
        Throughput = Constants.XAI_MODE_THROUGHPUT
    }

    /// <summary>How a session computes.</summary>
    public enum Precision
    {
        /// <summary>Direct kernels, float.</summary>
        Standard = Constants.XAI_PRECISION_STANDARD,
        /// <summary>Plain kernels that accumulate in double: slow, for checking.</summary>
        Reference = Constants.XAI_PRECISION_REFERENCE,
        /// <summary>Winograd's algorithm for 3x3 convolutions: faster, rounding errors about twice as large.</summary>
        Fast = Constants.XAI_PRECISION_FAST
    }

    /// <summary>How a session or explainer runs.</summary>
    public sealed class SessionOptions
    {
        /// <summary>Threads to use; 0 = as many as this process may use.</summary>
        public int Threads { get; set; }

        /// <summary>Latency or throughput. Results have the same bits.</summary>
        public Mode Mode { get; set; }

        /// <summary>Standard, for checking, or fast.</summary>
        public Precision Precision { get; set; }

        /// <summary>Limit in bytes of the working memory for one row; 0 = none.</summary>
        public long MemoryLimit { get; set; }

        /// <summary>Whether NaN and infinities may pass through <see cref="Session.Run(Tensor[])"/>.</summary>
        public bool AllowNonfinite { get; set; }

        /// <summary>Options of the library; the watch gets the reports.</summary>
        internal static SessionOptionsHandle Open(SessionOptions options, Watch watch)
        {
            options = options ?? new SessionOptions();
            if (options.MemoryLimit < 0 || (ulong)options.MemoryLimit > (UIntPtr.Size == 4 ? uint.MaxValue : ulong.MaxValue))
                throw new XaiException(Status.Argument, "MemoryLimit: " + options.MemoryLimit + " is out of range", "MemoryLimit");
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            XaiException.Check(Native.xai_session_options_create(made, error), error);
            var handle = new SessionOptionsHandle(made[0], true);
            try
            {
                XaiException.Check(Native.xai_session_options_set_threads(handle, options.Threads, error), error);
                XaiException.Check(Native.xai_session_options_set_mode(handle, (int)options.Mode, error), error);
                XaiException.Check(Native.xai_session_options_set_precision(handle, (int)options.Precision, error), error);
                XaiException.Check(
                    Native.xai_session_options_set_memory_limit(handle, (UIntPtr)(ulong)options.MemoryLimit, error), error);
                XaiException.Check(
                    Native.xai_session_options_set_allow_nonfinite(handle, options.AllowNonfinite ? 1 : 0, error), error);
                XaiException.Check(
                    Native.xai_session_options_set_progress(handle, watch.Callback, IntPtr.Zero, error), error);
                return handle;
            }
            catch
            {
                handle.Dispose();
                throw;
            }
        }
    }

    /// <summary>Gradients of several targets on one forward pass.</summary>
    public sealed class GradientResult
    {
        internal GradientResult(Tensor[][] gradients, double[][] scores)
        {
            Gradients = gradients;
            Scores = scores;
        }

        /// <summary>By target, then by input or layer; null for an input that is not floating point.</summary>
        public IReadOnlyList<IReadOnlyList<Tensor>> Gradients { get; }

        /// <summary>By target, then by row: the scores that were differentiated.</summary>
        public IReadOnlyList<IReadOnlyList<double>> Scores { get; }
    }

    /// <summary>
    /// Runs a model forward and backward. Serves one call at a time: make one for each thread; they share the weights. What it
    /// compiles for the shape of an input it keeps.
    /// </summary>
    public sealed class Session : IDisposable
    {
        private readonly SessionHandle handle;
        private readonly int outputs, inputs;
        private readonly Watch watch = new Watch();

        /// <summary>Make a session.</summary>
        /// <param name="model">May be disposed before the session.</param>
        /// <param name="options">null = the defaults.</param>
        public Session(Model model, SessionOptions options = null)
        {
            if (model == null)
                throw new ArgumentNullException(nameof(model));
            inputs = model.Inputs.Count;
            outputs = model.Outputs.Count;
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            using (SessionOptionsHandle settings = SessionOptions.Open(options, watch))
                XaiException.Check(Native.xai_session_create(model.Handle, settings, made, error), error);
            handle = new SessionHandle(made[0], true);
        }

        /// <summary>Bytes of working memory for one row of the last call; 0 before the first.</summary>
        public long ArenaBytes
        {
            get { return (long)Native.xai_session_arena_bytes(handle); }
        }

        /// <summary>Run the model.</summary>
        /// <param name="inputs">One tensor (N, ...) an input, in the model's order.</param>
        /// <returns>One tensor (N, ...) an output.</returns>
        /// <exception cref="XaiException">Status Shape, Numeric (NaN or infinity), Argument, Unsupported or Memory.</exception>
        public Tensor[] Run(params Tensor[] inputs)
        {
            return Run(inputs, null, CancellationToken.None);
        }

        /// <summary>Run the model, with reports and cancellation.</summary>
        /// <param name="inputs">One tensor (N, ...) an input, in the model's order.</param>
        /// <param name="progress">Takes reports, on any thread; may be null.</param>
        /// <param name="cancellationToken">Stops the call.</param>
        /// <returns>One tensor (N, ...) an output.</returns>
        /// <exception cref="XaiException">As above.</exception>
        /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
        public Tensor[] Run(Tensor[] inputs, IProgress<ProgressReport> progress, CancellationToken cancellationToken)
        {
            var results = new IntPtr[outputs];
            using (LentTensor.LentList lent = LentTensor.LendAll(inputs))
                watch.Run(error => Native.xai_session_scores(handle, lent.Pointers, lent.Count, results,
                    (UIntPtr)(uint)outputs, error), progress, cancellationToken);
            return Tensor.TakeAll(results);
        }

        /// <summary>Run the model and take values from inside it.</summary>
        /// <param name="inputs">One tensor (N, ...) an input.</param>
        /// <param name="names">Names of ONNX values or nodes, or layer numbers as text.</param>
        /// <returns>One tensor (N, ...) a name.</returns>
        /// <exception cref="XaiException">As for running, and NotFound for an unknown name.</exception>
        public Tensor[] Values(Tensor[] inputs, params string[] names)
        {
            if (names == null)
                throw new ArgumentNullException(nameof(names));
            var results = new IntPtr[names.Length];
            using (LentTensor.LentList lent = LentTensor.LendAll(inputs))
            using (var texts = new TextList(names, nameof(names)))
                watch.Run(error => Native.xai_session_values(handle, lent.Pointers, lent.Count, texts.Pointers, texts.Count,
                    results, error), null, CancellationToken.None);
            return Tensor.TakeAll(results);
        }

        /// <summary>Differentiate a score with respect to the first input, or a layer.</summary>
        /// <param name="input">(N, ...), for a model with one input.</param>
        /// <param name="target">A label, an index, or another target; null = the highest score of each row.</param>
        /// <param name="score">Raw, logit or probability.</param>
        /// <param name="wrt">Name of a layer; null = the input.</param>
        /// <returns>The gradient, shaped like the input, or (N, ...) of the layer; null when the input is not floating point.</returns>
        /// <exception cref="XaiException">As for running, and NotFound, or Unsupported where there is no gradient.</exception>
        public Tensor Gradient(Tensor input, Target target = null, ScoreKind score = ScoreKind.Raw, string wrt = null)
        {
            return Gradients(new[] { input }, new[] { target }, score, wrt == null ? null : new[] { wrt }).Gradients[0][0];
        }

        /// <summary>Differentiate several targets on one forward pass a row.</summary>
        /// <param name="inputs">One tensor (N, ...) an input.</param>
        /// <param name="targets">One or more; null = the highest score of each row.</param>
        /// <param name="score">Raw, logit or probability.</param>
        /// <param name="wrt">Names of inputs or layers; null = every input.</param>
        /// <param name="progress">Takes reports, on any thread; may be null.</param>
        /// <param name="cancellationToken">Stops the call.</param>
        /// <returns>Gradients and scores.</returns>
        /// <exception cref="XaiException">As for running, and NotFound, or Unsupported where there is no gradient.</exception>
        /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
        public GradientResult Gradients(Tensor[] inputs, Target[] targets, ScoreKind score = ScoreKind.Raw, string[] wrt = null,
            IProgress<ProgressReport> progress = null, CancellationToken cancellationToken = default(CancellationToken))
        {
            int places = wrt == null ? this.inputs : wrt.Length;
            if (targets == null)
                throw new ArgumentNullException(nameof(targets));
            var gradients = new IntPtr[targets.Length * places];
            var scores = new IntPtr[targets.Length];
            using (LentTensor.LentList lent = LentTensor.LendAll(inputs))
            using (HandleList made = Target.OpenAll(targets))
            using (var names = new TextList(wrt ?? new string[0], nameof(wrt)))
                watch.Run(error => Native.xai_session_gradients(handle, lent.Pointers, lent.Count, made.Pointers, made.Count,
                    (int)score, wrt == null ? null : names.Pointers, names.Count, gradients, scores, error),
                    progress, cancellationToken);
            Tensor[] taken = Tensor.TakeAll(gradients), takenScores = Tensor.TakeAll(scores);
            var byTarget = new Tensor[targets.Length][];
            var byTargetScores = new double[targets.Length][];
            for (int i = 0; i < targets.Length; i++)
            {
                byTarget[i] = new Tensor[places];
                Array.Copy(taken, i * places, byTarget[i], 0, places);
                byTargetScores[i] = (double[])takenScores[i].ToArray();
            }
            return new GradientResult(byTarget, byTargetScores);
        }

        /// <summary>Compile without running: what the session would do.</summary>
        /// <param name="inputs">Only types and shapes matter.</param>
        /// <param name="wrt">Names of inputs or layers to plan gradients for; none = forward only.</param>
        /// <returns>The steps.</returns>
        /// <exception cref="XaiException">As for running.</exception>
        public Plan Plan(Tensor[] inputs, params string[] wrt)
        {
            var made = new IntPtr[1];
            using (LentTensor.LentList lent = LentTensor.LendAll(inputs))
            using (var names = new TextList(wrt ?? new string[0], nameof(wrt)))
                watch.Run(error => Native.xai_session_plan(handle, lent.Pointers, lent.Count,
                    names.Pointers.Length == 0 ? null : names.Pointers, names.Count, made, error), null, CancellationToken.None);
            using (var plan = new PlanHandle(made[0], true))
                return new Plan(plan);
        }

        /// <summary>Compile, then run the first row and take the time of each step.</summary>
        /// <param name="inputs">One tensor (N, ...) an input.</param>
        /// <param name="runs">1 or more; the least time of each step counts.</param>
        /// <param name="wrt">Names of inputs or layers to differentiate; none = forward only.</param>
        /// <returns>The steps with their times.</returns>
        /// <exception cref="XaiException">As for running; Argument for runs below 1.</exception>
        public Plan Profile(Tensor[] inputs, int runs = 10, params string[] wrt)
        {
            var made = new IntPtr[1];
            using (LentTensor.LentList lent = LentTensor.LendAll(inputs))
            using (var names = new TextList(wrt ?? new string[0], nameof(wrt)))
                watch.Run(error => Native.xai_session_profile(handle, lent.Pointers, lent.Count,
                    names.Pointers.Length == 0 ? null : names.Pointers, names.Count, runs, made, error), null,
                    CancellationToken.None);
            using (var plan = new PlanHandle(made[0], true))
                return new Plan(plan);
        }

        /// <summary>Give the session back.</summary>
        public void Dispose()
        {
            handle.Dispose();
        }
    }

    /// <summary>A step of a plan.</summary>
    public sealed class PlanStep
    {
        internal PlanStep(PlanHandle plan, UIntPtr index)
        {
            Node = Utf8.Decode(Native.xai_plan_step_node(plan, index));
            Operator = Utf8.Decode(Native.xai_plan_step_operator(plan, index));
            Implementation = Utf8.Decode(Native.xai_plan_step_implementation(plan, index));
            IsBackward = Native.xai_plan_step_backward(plan, index) != 0;
            Bytes = (long)Native.xai_plan_step_bytes(plan, index);
            Operations = Native.xai_plan_step_operations(plan, index);
            Milliseconds = Native.xai_plan_step_milliseconds(plan, index);
        }

        /// <summary>Name of the node.</summary>
        public string Node { get; }

        /// <summary>Its operator.</summary>
        public string Operator { get; }

        /// <summary>What computes it.</summary>
        public string Implementation { get; }

        /// <summary>Whether it belongs to the backward pass.</summary>
        public bool IsBackward { get; }

        /// <summary>Bytes that it writes.</summary>
        public long Bytes { get; }

        /// <summary>Floating point operations of a convolution or matrix product that oneDNN computes; else 0.</summary>
        public double Operations { get; }

        /// <summary>Its least time in a profile; else 0.</summary>
        public double Milliseconds { get; }
    }

    /// <summary>A buffer in the working memory of a plan. Buffers that never live together overlap.</summary>
    public sealed class PlanBuffer
    {
        internal PlanBuffer(PlanHandle plan, UIntPtr index)
        {
            Value = Utf8.Decode(Native.xai_plan_buffer_value(plan, index));
            IsGradient = Native.xai_plan_buffer_gradient(plan, index) != 0;
            Bytes = (long)Native.xai_plan_buffer_bytes(plan, index);
            Offset = (long)Native.xai_plan_buffer_offset(plan, index);
            FirstStep = (long)Native.xai_plan_buffer_first_step(plan, index);
            LastStep = (long)Native.xai_plan_buffer_last_step(plan, index);
        }

        /// <summary>The value that it holds, or the node that fills it.</summary>
        public string Value { get; }

        /// <summary>Whether it belongs to the backward pass.</summary>
        public bool IsGradient { get; }

        /// <summary>Its size.</summary>
        public long Bytes { get; }

        /// <summary>Where it lies in the working memory.</summary>
        public long Offset { get; }

        /// <summary>The first step that touches it.</summary>
        public long FirstStep { get; }

        /// <summary>The last step that touches it.</summary>
        public long LastStep { get; }
    }

    /// <summary>What a session would run for inputs of certain shapes.</summary>
    public sealed class Plan
    {
        internal Plan(PlanHandle handle)
        {
            ArenaBytes = (long)Native.xai_plan_arena_bytes(handle);
            var steps = new PlanStep[(int)Native.xai_plan_step_count(handle)];
            for (int i = 0; i < steps.Length; i++)
                steps[i] = new PlanStep(handle, (UIntPtr)(uint)i);
            Steps = steps;
            ScratchpadBytes = (long)Native.xai_plan_scratchpad_bytes(handle);
            WeightsBytes = (long)Native.xai_plan_weights_bytes(handle);
            var buffers = new PlanBuffer[(int)Native.xai_plan_buffer_count(handle)];
            for (int i = 0; i < buffers.Length; i++)
                buffers[i] = new PlanBuffer(handle, (UIntPtr)(uint)i);
            Buffers = buffers;
        }

        /// <summary>Bytes that steps use while they run, shared by all of them; part of <see cref="ArenaBytes"/>.</summary>
        public long ScratchpadBytes { get; }

        /// <summary>Bytes of weights as the steps read them, shared by all sessions of the model.</summary>
        public long WeightsBytes { get; }

        /// <summary>What lies in the working memory.</summary>
        public IReadOnlyList<PlanBuffer> Buffers { get; }

        /// <summary>Bytes of working memory for one row.</summary>
        public long ArenaBytes { get; }

        /// <summary>The steps, forward ones first.</summary>
        public IReadOnlyList<PlanStep> Steps { get; }
    }
}
