using System;
using System.Collections.Generic;

namespace LibXai
{
    /// <summary>
    /// Which score is explained or differentiated. A number or a text is one, too: <c>model.Explain(x, target: "Effusion")</c>.
    /// One choice holds for all rows; several choices are one a row. null stands for the highest score of each row.
    /// Immutable; names and bounds are checked when it is used.
    /// </summary>
    public sealed class Target
    {
        private readonly Action<TargetHandle, IntPtr[]>[] choices;
        private readonly string output;

        private Target(Action<TargetHandle, IntPtr[]>[] choices, string output)
        {
            this.choices = choices;
            this.output = output;
        }

        /// <summary>The highest score of each row.</summary>
        public static Target Highest
        {
            get { return One((target, error) => XaiException.Check(Native.xai_target_add_highest(target, error), error)); }
        }

        /// <summary>Entry of an output (N, K).</summary>
        /// <param name="index">From 0; -1 is the last.</param>
        /// <returns>The target.</returns>
        public static Target Index(long index)
        {
            return One((target, error) => XaiException.Check(Native.xai_target_add_index(target, index, error), error));
        }

        /// <summary>The entry with this label on the model card.</summary>
        /// <param name="label">Letter case counts.</param>
        /// <returns>The target.</returns>
        public static Target Label(string label)
        {
            if (label == null)
                throw new ArgumentNullException(nameof(label));
            byte[] text = Utf8.Encode(label, "target");
            return One((target, error) => XaiException.Check(Native.xai_target_add_label(target, text, error), error));
        }

        /// <summary>One element of an output of any shape.</summary>
        /// <param name="indices">Without the row axis: (channel, y, x) for an output (N, C, H, W).</param>
        /// <returns>The target.</returns>
        public static Target Element(params long[] indices)
        {
            if (indices == null)
                throw new ArgumentNullException(nameof(indices));
            long[] copy = (long[])indices.Clone();
            return One((target, error) => XaiException.Check(
                Native.xai_target_add_element(target, copy, (UIntPtr)(uint)copy.Length, error), error));
        }

        /// <summary>The sum over a box of an output.</summary>
        /// <param name="begin">First index of each axis, without the row axis.</param>
        /// <param name="end">One past the last index; -1 means to the end.</param>
        /// <returns>The target.</returns>
        public static Target Region(long[] begin, long[] end)
        {
            if (begin == null)
                throw new ArgumentNullException(nameof(begin));
            if (end == null)
                throw new ArgumentNullException(nameof(end));
            if (begin.Length != end.Length)
                throw new XaiException(Status.Argument, "target: begin has " + begin.Length + " axes, end has " + end.Length, "target");
            long[] from = (long[])begin.Clone(), to = (long[])end.Clone();
            return One((target, error) => XaiException.Check(
                Native.xai_target_add_region(target, from, to, (UIntPtr)(uint)from.Length, error), error));
        }

        /// <summary>A choice a row.</summary>
        /// <param name="rows">In the order of the rows; null = the highest score.</param>
        /// <returns>The target.</returns>
        public static Target Rows(params Target[] rows)
        {
            if (rows == null)
                throw new ArgumentNullException(nameof(rows));
            if (rows.Length == 0)
                throw new XaiException(Status.Argument, "target: no rows", "target");
            var all = new List<Action<TargetHandle, IntPtr[]>>();
            foreach (Target row in rows)
                all.AddRange((row ?? Highest).choices);
            return new Target(all.ToArray(), null);
        }

        /// <summary>The same choices of another output than the first.</summary>
        /// <param name="name">Name of the output.</param>
        /// <returns>The target.</returns>
        public Target Of(string name)
        {
            return new Target(choices, name);
        }

        /// <summary>An index as target.</summary>
        /// <param name="index">From 0; -1 is the last.</param>
        public static implicit operator Target(long index)
        {
            return Index(index);
        }

        /// <summary>A label as target; null = the highest score.</summary>
        /// <param name="label">Letter case counts.</param>
        public static implicit operator Target(string label)
        {
            return label == null ? null : Label(label);
        }

        /// <summary>The target as the library takes it; null for null.</summary>
        internal static TargetHandle Open(Target target)
        {
            if (target == null)
                return null;
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            XaiException.Check(Native.xai_target_create(made, error), error);
            var handle = new TargetHandle(made[0], true);
            try
            {
                if (target.output != null)
                    XaiException.Check(
                        Native.xai_target_set_output(handle, Utf8.Encode(target.output, "output"), error), error);
                foreach (Action<TargetHandle, IntPtr[]> choice in target.choices)
                    choice(handle, error);
                return handle;
            }
            catch
            {
                handle.Dispose();
                throw;
            }
        }

        /// <summary>Several targets for one call.</summary>
        internal static HandleList OpenAll(Target[] targets)
        {
            if (targets == null)
                throw new ArgumentNullException(nameof(targets));
            var handles = new NativeHandle[targets.Length];
            try
            {
                for (int i = 0; i < targets.Length; i++)
                    handles[i] = Open(targets[i]);
                return new HandleList(handles, true);
            }
            catch
            {
                foreach (NativeHandle each in handles)
                    if (each != null)
                        each.Dispose();
                throw;
            }
        }

        private static Target One(Action<TargetHandle, IntPtr[]> choice)
        {
            return new Target(new[] { choice }, null);
        }
    }

    /// <summary>Which form of a score.</summary>
    public enum ScoreKind
    {
        /// <summary>As the model outputs it.</summary>
        Raw = Constants.XAI_SCORE_RAW,
        /// <summary>Before a final Sigmoid or Softmax of the model; the raw score when it has none.</summary>
        Logit = Constants.XAI_SCORE_LOGIT,
        /// <summary>As a probability; refused when neither model nor card say how to get one.</summary>
        Probability = Constants.XAI_SCORE_PROBABILITY
    }
}
