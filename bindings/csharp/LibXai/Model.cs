using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;

namespace LibXai
{
    /// <summary>An input or output of a model.</summary>
    public sealed class ValueInfo
    {
        internal ValueInfo(string name, ElementType elementType, long[] shape, string[] axes)
        {
            Name = name;
            ElementType = elementType;
            Shape = shape;
            AxisNames = axes;
        }

        /// <summary>Its name.</summary>
        public string Name { get; }

        /// <summary>Type of its elements.</summary>
        public ElementType ElementType { get; }

        /// <summary>Sizes; -1 where a size is free. null when the model does not say.</summary>
        public IReadOnlyList<long> Shape { get; }

        /// <summary>Names of the free axes, such as "batch"; "" for the others. null when the model does not say.</summary>
        public IReadOnlyList<string> AxisNames { get; }

        /// <summary>The name.</summary>
        /// <returns><see cref="Name"/>.</returns>
        public override string ToString()
        {
            return Name;
        }
    }

    /// <summary>A value inside a model that the CAM methods can explain.</summary>
    public sealed class Layer
    {
        internal Layer(string name, string node, string @operator)
        {
            Name = name;
            Node = node;
            Operator = @operator;
        }

        /// <summary>Name of the ONNX value.</summary>
        public string Name { get; }

        /// <summary>Name of the node that computes it.</summary>
        public string Node { get; }

        /// <summary>Its operator, such as "Relu".</summary>
        public string Operator { get; }

        /// <summary>The name.</summary>
        /// <returns><see cref="Name"/>.</returns>
        public override string ToString()
        {
            return Name;
        }
    }

    /// <summary>
    /// A trained model, read from an ONNX file. Immutable: any number of threads, sessions and explainers may use it at once. They
    /// keep it alive, so it may be disposed before them.
    /// </summary>
    public sealed class Model : IDisposable
    {
        private delegate IntPtr Name(ModelHandle model, UIntPtr index);

        private Model(ModelHandle handle)
        {
            Handle = handle;
            Inputs = Values((int)Native.xai_model_input_count(handle), Native.xai_model_input_name, Native.xai_model_input_dtype,
                Native.xai_model_input_rank, Native.xai_model_input_dims, Native.xai_model_input_dim_name);
            Outputs = Values((int)Native.xai_model_output_count(handle), Native.xai_model_output_name,
                Native.xai_model_output_dtype, Native.xai_model_output_rank, Native.xai_model_output_dims,
                Native.xai_model_output_dim_name);
            string[] names = Texts(Native.xai_model_layer_count(handle), Native.xai_model_layer_name);
            string[] nodes = Texts(Native.xai_model_layer_count(handle), Native.xai_model_layer_node);
            string[] operators = Texts(Native.xai_model_layer_count(handle), Native.xai_model_layer_operator);
            var layers = new Layer[names.Length];
            for (int i = 0; i < layers.Length; i++)
                layers[i] = new Layer(names[i], nodes[i], operators[i]);
            Layers = layers;
            Labels = Texts(Native.xai_model_label_count(handle), Native.xai_model_label);
            string[] keys = Texts(Native.xai_model_metadata_count(handle), Native.xai_model_metadata_key);
            string[] values = Texts(Native.xai_model_metadata_count(handle), Native.xai_model_metadata_value);
            var metadata = new Dictionary<string, string>();
            for (int i = 0; i < keys.Length; i++)
                metadata[keys[i]] = values[i];
            Metadata = metadata;
            ReadCard();
        }

        /// <summary>Open an ONNX file. It is mapped, not copied: it must not be changed while the model lives.</summary>
        /// <param name="path">The file; a model card `NAME.xai.json` beside it is read as well.</param>
        /// <returns>The model.</returns>
        /// <exception cref="XaiException">
        /// Status File, Format, Unsupported (the message names the operator), Shape or Memory.
        /// </exception>
        public static Model Load(string path)
        {
            if (path == null)
                throw new ArgumentNullException(nameof(path));
            byte[] text = Utf8.Encode(path, "path");
            return Opened((made, error) => Native.xai_model_open(text, made, error));
        }

        /// <summary>Read a model from memory, which is copied. External data is refused.</summary>
        /// <param name="bytes">The contents of an ONNX file.</param>
        /// <returns>The model.</returns>
        /// <exception cref="XaiException">As for a file.</exception>
        public static Model Load(byte[] bytes)
        {
            if (bytes == null)
                throw new ArgumentNullException(nameof(bytes));
            GCHandle pinned = GCHandle.Alloc(bytes, GCHandleType.Pinned);
            try
            {
                return Opened((made, error) =>
                    Native.xai_model_parse(pinned.AddrOfPinnedObject(), (UIntPtr)(uint)bytes.Length, made, error));
            }
            finally
            {
                pinned.Free();
            }
        }

        /// <summary>The inputs.</summary>
        public IReadOnlyList<ValueInfo> Inputs { get; }

        /// <summary>The outputs.</summary>
        public IReadOnlyList<ValueInfo> Outputs { get; }

        /// <summary>What the CAM methods can explain, in the order of computation.</summary>
        public IReadOnlyList<Layer> Layers { get; }

        /// <summary>Labels of the scores, from the model card; empty without one.</summary>
        public IReadOnlyList<string> Labels { get; }

        /// <summary>Metadata of the file.</summary>
        public IReadOnlyDictionary<string, string> Metadata { get; }

        /// <summary>Model card: what black and white of an image become; null when it does not say.</summary>
        public IReadOnlyList<double> InputRange { get; private set; }

        /// <summary>Model card: subtracted after scaling to the range, one a channel or one for all; may be empty.</summary>
        public IReadOnlyList<double> InputMean { get; private set; }

        /// <summary>Model card: divided by after the mean, one a channel or one for all; may be empty.</summary>
        public IReadOnlyList<double> InputDeviation { get; private set; }

        /// <summary>Height and width that images are resized to, from the card or the shape; null when not known.</summary>
        public IReadOnlyList<long> InputSize { get; private set; }

        /// <summary>Channels of an image, 1 or 3; 0 when not known.</summary>
        public long InputChannels { get; private set; }

        /// <summary>
        /// Model card: what a score means: "logit-sigmoid", "logit-softmax", "logit", "probability", "value", or "" when it does
        /// not say.
        /// </summary>
        public string ScoreMeaning { get; private set; }

        /// <summary>The program that wrote the file, such as "pytorch".</summary>
        public string ProducerName { get; private set; }

        /// <summary>The version of that program.</summary>
        public string ProducerVersion { get; private set; }

        /// <summary>Version of the file format.</summary>
        public long IrVersion { get; private set; }

        /// <summary>What the CAM methods explain unless told otherwise; null when there is no such layer. Takes milliseconds.</summary>
        public Layer DefaultLayer
        {
            get
            {
                long index = Native.xai_model_default_layer(Handle);
                return index < 0 ? null : Layers[(int)index];
            }
        }

        internal ModelHandle Handle { get; }

        /// <summary>Version of an operator set.</summary>
        /// <param name="domain">"" for the operators of ONNX itself.</param>
        /// <returns>0 when the model does not use it.</returns>
        public long Opset(string domain = "")
        {
            return Native.xai_model_opset(Handle, Utf8.Encode(domain ?? "", nameof(domain)));
        }

        /// <summary>Position of an input.</summary>
        /// <param name="name">Its name.</param>
        /// <returns>-1 when there is none.</returns>
        public long FindInput(string name)
        {
            return Native.xai_model_find_input(Handle, Utf8.Encode(name, nameof(name)));
        }

        /// <summary>Position of an output.</summary>
        /// <param name="name">Its name.</param>
        /// <returns>-1 when there is none.</returns>
        public long FindOutput(string name)
        {
            return Native.xai_model_find_output(Handle, Utf8.Encode(name, nameof(name)));
        }

        /// <summary>
        /// Make an input from an image, as the model card says: resized to the model's size, scaled to its range, mean and deviation
        /// applied. Grey goes into three channels as equal ones; RGB becomes its luma in a grey model.
        /// </summary>
        /// <param name="pixels">height x width x channels of byte[], ushort[], short[] or float[], rows adjacent.</param>
        /// <param name="width">In pixels.</param>
        /// <param name="height">In pixels.</param>
        /// <param name="channels">1 (grey) or 3 (RGB).</param>
        /// <param name="black">The pixel value that is black.</param>
        /// <param name="white">
        /// The pixel value that is white, such as 4095 for 12 bits; below black for inverted images. Both 0 = the whole range of byte
        /// or ushort.
        /// </param>
        /// <param name="index">Which input.</param>
        /// <returns>Float32 (1, C, H, W).</returns>
        /// <exception cref="XaiException">
        /// Status Unsupported when the card has no range or the input is no image; Shape; Argument; Numeric for a pixel that is not a
        /// number; Memory.
        /// </exception>
        public Tensor ImageInput(Array pixels, int width, int height, int channels = 1, double black = 0, double white = 0,
            int index = 0)
        {
            if (pixels == null)
                throw new ArgumentNullException(nameof(pixels));
            int type = pixels is byte[] ? Constants.XAI_DTYPE_UINT8
                : pixels.GetType() == typeof(ushort[]) ? Constants.XAI_DTYPE_UINT16
                : pixels.GetType() == typeof(short[]) ? Constants.XAI_DTYPE_INT16
                : pixels is float[] ? Constants.XAI_DTYPE_FLOAT32
                : 0;
            if (type == 0)
                throw new XaiException(Status.Argument,
                    "pixels: byte[], ushort[], short[] or float[] is needed, not " + pixels.GetType().Name, "pixels");
            if (index < 0)
                throw new XaiException(Status.Argument, "index: " + index + " is negative", "index");
            if (width < 1 || height < 1 || channels < 1 || pixels.LongLength != (long)width * height * channels)
                throw new XaiException(Status.Shape,
                    "pixels: " + pixels.LongLength + " values are not " + height + " x " + width + " x " + channels, "pixels");
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            GCHandle pinned = GCHandle.Alloc(pixels, GCHandleType.Pinned);
            try
            {
                XaiException.Check(Native.xai_model_image_input(Handle, (UIntPtr)(uint)index, pinned.AddrOfPinnedObject(), type,
                    (UIntPtr)(uint)width, (UIntPtr)(uint)height, channels, black, white, made, error), error);
            }
            finally
            {
                pinned.Free();
            }
            return Tensor.Take(made[0]);
        }

        /// <summary>Run the model once. To run it often, make a <see cref="Session"/>.</summary>
        /// <param name="input">(N, ...) as the model takes it.</param>
        /// <returns>The first output.</returns>
        /// <exception cref="XaiException">As for <see cref="Session.Run(Tensor[])"/>.</exception>
        public Tensor Run(Tensor input)
        {
            using (var session = new Session(this))
                return session.Run(input)[0];
        }

        /// <summary>
        /// Explain one input. To explain many, make an <see cref="Explainer"/>: it keeps what it compiles.
        /// </summary>
        /// <param name="input">(N, C, H, W) in the range that the model was trained on.</param>
        /// <param name="method">A name of <see cref="Library.Methods"/>.</param>
        /// <param name="target">A label, an index, or another target; null = the highest score of each row.</param>
        /// <param name="options">null = the defaults.</param>
        /// <param name="progress">Takes reports, on any thread; may be null.</param>
        /// <param name="cancellationToken">Stops the call.</param>
        /// <returns>The explanation, to be disposed.</returns>
        /// <exception cref="XaiException">As for <see cref="Explainer.Explain(Tensor, Target, IProgress{ProgressReport}, CancellationToken)"/>.</exception>
        public Explanation Explain(Tensor input, string method = "gradcam", Target target = null, ExplainerOptions options = null,
            IProgress<ProgressReport> progress = null, CancellationToken cancellationToken = default(CancellationToken))
        {
            using (var explainer = new Explainer(this, method, options))
                return explainer.Explain(input, target, progress, cancellationToken);
        }

        /// <summary>Give the model back. Sessions and explainers made from it go on working.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }

        private static Model Opened(Func<IntPtr[], IntPtr[], int> open)
        {
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            XaiException.Check(open(made, error), error);
            var handle = new ModelHandle(made[0], true);
            try
            {
                return new Model(handle);
            }
            catch
            {
                handle.Dispose();
                throw;
            }
        }

        private string[] Texts(UIntPtr count, Name name)
        {
            var texts = new string[(int)count];
            for (int i = 0; i < texts.Length; i++)
                texts[i] = Utf8.Decode(name(Handle, (UIntPtr)(uint)i));
            return texts;
        }

        private ValueInfo[] Values(int count, Name name, Func<ModelHandle, UIntPtr, int> type, Func<ModelHandle, UIntPtr, int> rank,
            Func<ModelHandle, UIntPtr, IntPtr> dims, Func<ModelHandle, UIntPtr, int, IntPtr> axis)
        {
            var values = new ValueInfo[count];
            for (int i = 0; i < count; i++)
            {
                var index = (UIntPtr)(uint)i;
                int axes = rank(Handle, index);
                long[] shape = axes < 0 ? null : new long[axes];
                string[] axisNames = axes < 0 ? null : new string[axes];
                if (axes > 0)
                    Marshal.Copy(dims(Handle, index), shape, 0, axes);
                for (int k = 0; k < axes; k++)
                    axisNames[k] = Utf8.Decode(axis(Handle, index, k));
                values[i] = new ValueInfo(Utf8.Decode(name(Handle, index)), (ElementType)type(Handle, index), shape, axisNames);
            }
            return values;
        }

        private static double[] Doubles(UIntPtr count, IntPtr[] from)
        {
            var values = new double[(int)count];
            if (values.Length > 0)
                Marshal.Copy(from[0], values, 0, values.Length);
            return values;
        }

        private void ReadCard()
        {
            var low = new double[1];
            var high = new double[1];
            var height = new long[1];
            var width = new long[1];
            var values = new IntPtr[1];
            if (Native.xai_model_input_range(Handle, low, high) != 0)
                InputRange = new[] { low[0], high[0] };
            InputMean = Doubles(Native.xai_model_input_mean(Handle, values), values);
            InputDeviation = Doubles(Native.xai_model_input_std(Handle, values), values);
            if (Native.xai_model_input_size(Handle, height, width) != 0)
                InputSize = new[] { height[0], width[0] };
            InputChannels = Native.xai_model_input_channels(Handle);
            ScoreMeaning = Utf8.Decode(Native.xai_model_score_meaning(Handle));
            ProducerName = Utf8.Decode(Native.xai_model_producer_name(Handle));
            ProducerVersion = Utf8.Decode(Native.xai_model_producer_version(Handle));
            IrVersion = Native.xai_model_ir_version(Handle);
        }
    }
}
