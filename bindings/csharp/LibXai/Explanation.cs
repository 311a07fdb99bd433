using System;
using System.Collections.Generic;

namespace LibXai
{
    /// <summary>What the reader of an explanation should know.</summary>
    public sealed class Warning
    {
        internal Warning(string text, long row)
        {
            Text = text;
            Row = row;
        }

        /// <summary>English text.</summary>
        public string Text { get; }

        /// <summary>The row that it is about; -1 for all.</summary>
        public long Row { get; }

        /// <summary>The text.</summary>
        /// <returns><see cref="Text"/>.</returns>
        public override string ToString()
        {
            return Text;
        }
    }

    /// <summary>What was attributed to: an input of the model, or the layer.</summary>
    public sealed class Part
    {
        internal Part(string name, Tensor values, Tensor standardErrors)
        {
            Name = name;
            Values = values;
            StandardErrors = standardErrors;
        }

        /// <summary>Name of the input or layer.</summary>
        public string Name { get; }

        /// <summary>Its attributions.</summary>
        public Tensor Values { get; }

        /// <summary>Their standard errors; null for methods that do not sample.</summary>
        public Tensor StandardErrors { get; }
    }

    /// <summary>
    /// What a method found: numbers, facts and a picture. Immutable; several threads may read it. Facts have one entry a row.
    /// </summary>
    public sealed class Explanation : IDisposable
    {
        private readonly ExplanationHandle handle;
        private readonly Lazy<Tensor> map, values, signedMap, standardErrors, segments, segmentValues, segmentStandardErrors;

        internal Explanation(ExplanationHandle handle)
        {
            this.handle = handle;
            map = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_map(handle)));
            values = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_values(handle)));
            signedMap = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_signed_map(handle)));
            standardErrors = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_standard_error(handle)));
            segments = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_segments(handle)));
            segmentValues = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_segment_values(handle)));
            segmentStandardErrors = new Lazy<Tensor>(() => Borrowed(Native.xai_explanation_segment_standard_error(handle)));
            RowCount = (int)Native.xai_explanation_row_count(handle);
            Method = Utf8.Decode(Native.xai_explanation_method(handle));
            Layer = Utf8.Decode(Native.xai_explanation_layer(handle));
            ScoreKind = (ScoreKind)Native.xai_explanation_score_kind(handle);
            Targets = Facts(row => Native.xai_explanation_target(handle, row));
            Labels = Facts(row => Utf8.Decode(Native.xai_explanation_label(handle, row)));
            Scores = Facts(row => Native.xai_explanation_score(handle, row));
            BaseValues = Facts(row => Native.xai_explanation_base_value(handle, row));
            CompletenessErrors = Facts(row => Native.xai_explanation_completeness_error(handle, row));
            Evaluations = Facts(row => Native.xai_explanation_evaluations(handle, row));
            Samples = Facts(row => Native.xai_explanation_samples(handle, row));
            Converged = Facts(row => Tristate(Native.xai_explanation_converged(handle, row)));
            Baseline = Utf8.Decode(Native.xai_explanation_baseline(handle));
            var warnings = new Warning[(int)Native.xai_explanation_warning_count(handle)];
            for (int i = 0; i < warnings.Length; i++)
                warnings[i] = new Warning(Utf8.Decode(Native.xai_explanation_warning(handle, (UIntPtr)(uint)i)),
                    Native.xai_explanation_warning_row(handle, (UIntPtr)(uint)i));
            Warnings = warnings;
        }

        /// <summary>Number of rows N.</summary>
        public int RowCount { get; }

        /// <summary>Name of the method.</summary>
        public string Method { get; }

        /// <summary>The ONNX value that was explained; "" for methods that explain the input.</summary>
        public string Layer { get; }

        /// <summary>Form of the explained score.</summary>
        public ScoreKind ScoreKind { get; }

        /// <summary>
        /// Attributions as the method defines them, row-major. For the CAM methods the map (N, h, w) of the layer, before it is
        /// cut and scaled. The same array each time, a copy of the library's.
        /// </summary>
        public float[] Values
        {
            get { return values.Value == null ? null : values.Value.ToFloats(); }
        }

        /// <summary>Shape of <see cref="Values"/>.</summary>
        public long[] ValuesShape
        {
            get { return values.Value == null ? null : values.Value.Shape; }
        }

        /// <summary>
        /// The map to look at: (N, H, W) at the resolution of the input, in [0, 1]; 0 = no positive evidence. null when the input has
        /// no spatial axes. The same array each time, a copy of the library's.
        /// </summary>
        public float[] Map
        {
            get { return map.Value == null ? null : map.Value.ToFloats(); }
        }

        /// <summary>Shape of <see cref="Map"/>.</summary>
        public long[] MapShape
        {
            get { return map.Value == null ? null : map.Value.Shape; }
        }

        /// <summary>
        /// The map with its negative evidence, in [-1, 1], shaped like the map; null for methods without negative evidence.
        /// </summary>
        public Tensor SignedMap
        {
            get { return signedMap.Value; }
        }

        /// <summary>The standard error of each of the values, shaped like them; null for methods that do not sample.</summary>
        public Tensor StandardErrors
        {
            get { return standardErrors.Value; }
        }

        /// <summary>The segments that were explained, (N, H, W) Int32; null without segments.</summary>
        public Tensor Segments
        {
            get { return segments.Value; }
        }

        /// <summary>The attribution of each segment as a whole, (N, K); null without segments.</summary>
        public Tensor SegmentValues
        {
            get { return segmentValues.Value; }
        }

        /// <summary>The standard errors of the segments, (N, K); null without segments or samples.</summary>
        public Tensor SegmentStandardErrors
        {
            get { return segmentStandardErrors.Value; }
        }

        /// <summary>Attributions to each input of the model, or to the layer; one but for models with several inputs.</summary>
        public IReadOnlyList<Part> Parts
        {
            get
            {
                var parts = new Part[(int)Native.xai_explanation_part_count(handle)];
                for (int i = 0; i < parts.Length; i++)
                {
                    var index = (UIntPtr)(uint)i;
                    parts[i] = new Part(Utf8.Decode(Native.xai_explanation_part_name(handle, index)),
                        Borrowed(Native.xai_explanation_part_values(handle, index)),
                        Borrowed(Native.xai_explanation_part_standard_error(handle, index)));
                }
                return parts;
            }
        }

        /// <summary>What stood for the absence of a feature, such as "the mean of each channel"; "" where nothing did.</summary>
        public string Baseline { get; }

        /// <summary>How many samples the attributions of each row are the mean of; 0 = none.</summary>
        public IReadOnlyList<long> Samples { get; }

        /// <summary>Whether the tolerance asked for was reached in each row; null when none was asked for.</summary>
        public IReadOnlyList<bool?> Converged { get; }

        /// <summary>Explained index of each row; -1 for a region.</summary>
        public IReadOnlyList<long> Targets { get; }

        /// <summary>Label of the explained score of each row, or its index as text.</summary>
        public IReadOnlyList<string> Labels { get; }

        /// <summary>The explained scores.</summary>
        public IReadOnlyList<double> Scores { get; }

        /// <summary>Scores of the baseline; NaN for methods without one.</summary>
        public IReadOnlyList<double> BaseValues { get; }

        /// <summary>|sum of attributions - (score - base value)|; NaN for methods without completeness.</summary>
        public IReadOnlyList<double> CompletenessErrors { get; }

        /// <summary>Evaluations of the model spent on each row.</summary>
        public IReadOnlyList<long> Evaluations { get; }

        /// <summary>What the reader should know.</summary>
        public IReadOnlyList<Warning> Warnings { get; }

        /// <summary>The facts as JSON.</summary>
        public string Json
        {
            get { return Utf8.Decode(Native.xai_explanation_json(handle)); }
        }

        /// <summary>Draw the map of a row over an image. What has no evidence stays as it was.</summary>
        /// <param name="image">height x width x channels bytes, rows adjacent; of any size.</param>
        /// <param name="width">In pixels.</param>
        /// <param name="height">In pixels.</param>
        /// <param name="channels">1 (grey) or 3 (RGB).</param>
        /// <param name="row">Which row.</param>
        /// <param name="alpha">Strength of the colour, 0 to 1.</param>
        /// <param name="colours">"viridis", "inferno" or "turbo"; null = "turbo".</param>
        /// <returns>height x width x 3 bytes RGB.</returns>
        /// <exception cref="XaiException">Status Argument, NotFound (colour map), Unsupported (there is no map) or Memory.</exception>
        public byte[] Overlay(byte[] image, int width, int height, int channels, int row = 0, double alpha = 0.5,
            string colours = null)
        {
            CheckPicture(image, width, height, channels, row);
            byte[] overlay = new byte[3L * width * height];
            var error = new IntPtr[1];
            XaiException.Check(Native.xai_explanation_overlay(handle, (UIntPtr)(uint)row, image, (UIntPtr)(uint)width,
                (UIntPtr)(uint)height, channels, alpha, Utf8.Encode(colours, nameof(colours)), overlay, error), error);
            return overlay;
        }

        /// <summary>Draw the map of a row over an image in a chosen way.</summary>
        /// <param name="image">height x width x channels bytes, rows adjacent; of any size.</param>
        /// <param name="width">In pixels.</param>
        /// <param name="height">In pixels.</param>
        /// <param name="channels">1 (grey) or 3 (RGB).</param>
        /// <param name="display">How to draw.</param>
        /// <param name="strongest">The value of the (smoothed) map from which on the colours are strongest; 0 without positive
        /// evidence.</param>
        /// <param name="row">Which row.</param>
        /// <returns>height x width x 3 bytes RGB.</returns>
        /// <exception cref="XaiException">Status Argument, NotFound (colour map), Unsupported (there is no map) or Memory.</exception>
        public byte[] Overlay(byte[] image, int width, int height, int channels, Display display, out double strongest,
            int row = 0)
        {
            CheckPicture(image, width, height, channels, row);
            if (display == null)
                throw new ArgumentNullException(nameof(display));
            byte[] overlay = new byte[3L * width * height];
            var error = new IntPtr[1];
            var found = new double[1];
            using (DisplayHandle how = display.Make())
                XaiException.Check(Native.xai_explanation_draw(handle, (UIntPtr)(uint)row, image, (UIntPtr)(uint)width,
                    (UIntPtr)(uint)height, channels, how, overlay, found, error), error);
            strongest = found[0];
            return overlay;
        }

        private static void CheckPicture(byte[] image, int width, int height, int channels, int row)
        {
            if (image == null)
                throw new ArgumentNullException(nameof(image));
            if (width < 1 || height < 1 || channels < 1 || image.LongLength != (long)width * height * channels)
                throw new XaiException(Status.Shape, "image: " + image.LongLength + " bytes are not " + height + " x " + width +
                    " x " + channels, "image");
            if (row < 0)
                throw new XaiException(Status.Argument, "row: " + row + " is negative", "row");
        }

        /// <summary>Give the explanation back. Facts stay readable, also arrays that were read before.</summary>
        public void Dispose()
        {
            handle.Dispose();
        }

        private Tensor Borrowed(IntPtr pointer)
        {
            if (pointer == IntPtr.Zero)
                return null;
            bool added = false;
            handle.DangerousAddRef(ref added); // the tensor belongs to the explanation: keep it while it is copied
            try
            {
                using (var tensor = new TensorHandle(pointer, false))
                    return new Tensor(tensor);
            }
            finally
            {
                handle.DangerousRelease();
            }
        }

        private static bool? Tristate(int answer)
        {
            return answer < 0 ? (bool?)null : answer != 0;
        }

        private T[] Facts<T>(Func<UIntPtr, T> fact)
        {
            var facts = new T[RowCount];
            for (int row = 0; row < facts.Length; row++)
                facts[row] = fact((UIntPtr)(uint)row);
            return facts;
        }
    }
}
