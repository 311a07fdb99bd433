using System;
using System.Buffers;
using System.Runtime.InteropServices;

namespace LibXai
{
    /// <summary>Element types, numbered as in ONNX.</summary>
    public enum ElementType
    {
        /// <summary>The model does not say.</summary>
        Unknown = 0,
        /// <summary>32-bit floating point.</summary>
        Float32 = Constants.XAI_DTYPE_FLOAT32,
        /// <summary>8-bit unsigned integer.</summary>
        UInt8 = Constants.XAI_DTYPE_UINT8,
        /// <summary>8-bit integer.</summary>
        Int8 = Constants.XAI_DTYPE_INT8,
        /// <summary>16-bit unsigned integer.</summary>
        UInt16 = Constants.XAI_DTYPE_UINT16,
        /// <summary>16-bit integer.</summary>
        Int16 = Constants.XAI_DTYPE_INT16,
        /// <summary>32-bit integer.</summary>
        Int32 = Constants.XAI_DTYPE_INT32,
        /// <summary>64-bit integer.</summary>
        Int64 = Constants.XAI_DTYPE_INT64,
        /// <summary>One byte, 0 or 1.</summary>
        Bool = Constants.XAI_DTYPE_BOOL,
        /// <summary>16-bit floating point (IEEE), held as ushort.</summary>
        Float16 = Constants.XAI_DTYPE_FLOAT16,
        /// <summary>64-bit floating point.</summary>
        Float64 = Constants.XAI_DTYPE_FLOAT64,
        /// <summary>32-bit unsigned integer.</summary>
        UInt32 = Constants.XAI_DTYPE_UINT32,
        /// <summary>64-bit unsigned integer.</summary>
        UInt64 = Constants.XAI_DTYPE_UINT64,
        /// <summary>16-bit floating point with the exponent of float, held as ushort.</summary>
        BFloat16 = Constants.XAI_DTYPE_BFLOAT16
    }

    /// <summary>
    /// Numbers with a shape, row-major: the last axis is adjacent in memory. The elements are memory of .NET. Those of an
    /// input are not copied: the array given is read during calls, and nobody may write to it meanwhile.
    /// </summary>
    public sealed class Tensor
    {
        private readonly Array array;
        private readonly ReadOnlyMemory<float> memory;
        private readonly long[] shape;

        /// <summary>A tensor of float over an array.</summary>
        /// <param name="values">Row-major; not copied.</param>
        /// <param name="shape">Sizes, such as 1, 1, 224, 224 for one grey image (N, C, H, W).</param>
        public Tensor(float[] values, params long[] shape) : this(values, ElementType.Float32, shape) { }

        /// <summary>A tensor of float over any memory, such as a part of a larger array.</summary>
        /// <param name="values">Row-major; not copied.</param>
        /// <param name="shape">Sizes, such as 1, 1, 224, 224 for one grey image (N, C, H, W).</param>
        public Tensor(ReadOnlyMemory<float> values, params long[] shape)
        {
            memory = values;
            this.shape = CheckedShape(shape, values.Length);
            ElementType = ElementType.Float32;
        }

        /// <summary>A tensor of any element type over an array.</summary>
        /// <param name="values">
        /// float[], double[], byte[] (UInt8 or Bool), sbyte[], short[], ushort[] (UInt16, Float16 or BFloat16), int[], uint[],
        /// long[] or ulong[]; not copied.
        /// </param>
        /// <param name="elementType">What the elements are.</param>
        /// <param name="shape">Sizes.</param>
        public Tensor(Array values, ElementType elementType, params long[] shape)
        {
            if (values == null)
                throw new ArgumentNullException(nameof(values));
            Type needed = ArrayElement(elementType);
            if (values.GetType() != needed.MakeArrayType())
                throw new XaiException(Status.Argument,
                    "values: " + elementType + " needs " + needed.Name + "[], not " + values.GetType().Name, "values");
            array = values;
            ElementType = elementType;
            this.shape = CheckedShape(shape, values.Length);
        }

        /// <summary>Copy a tensor of the library.</summary>
        internal Tensor(TensorHandle handle)
        {
            ElementType = (ElementType)Native.xai_tensor_dtype(handle);
            shape = new long[Native.xai_tensor_rank(handle)];
            if (shape.Length > 0)
                Marshal.Copy(Native.xai_tensor_dims(handle), shape, 0, shape.Length);
            ulong count = (ulong)Native.xai_tensor_count(handle);
            if (count > int.MaxValue)
                throw new XaiException(Status.Memory, "a result of " + count + " elements does not fit an array", "");
            array = Array.CreateInstance(ArrayElement(ElementType), (int)count);
            if (count > 0)
                CopyOut(Native.xai_tensor_data(handle), array);
        }

        /// <summary>Type of the elements.</summary>
        public ElementType ElementType { get; }

        /// <summary>Number of axes.</summary>
        public int Rank
        {
            get { return shape.Length; }
        }

        /// <summary>A copy of the sizes.</summary>
        public long[] Shape
        {
            get { return (long[])shape.Clone(); }
        }

        /// <summary>Number of elements.</summary>
        public int Count
        {
            get { return array == null ? memory.Length : array.Length; }
        }

        /// <summary>The elements as float: the array itself for Float32, else converted.</summary>
        /// <returns>Row-major values.</returns>
        /// <exception cref="XaiException">Elements of 16-bit floating point: take <see cref="ToArray"/>.</exception>
        public float[] ToFloats()
        {
            float[] floats = array as float[];
            if (floats != null)
                return floats;
            if (array == null)
                return memory.ToArray();
            if (ElementType == ElementType.Float16 || ElementType == ElementType.BFloat16)
                throw new XaiException(Status.Unsupported, "16-bit floating point is not converted: take ToArray()", "");
            floats = new float[array.Length];
            for (int i = 0; i < floats.Length; i++)
                floats[i] = Convert.ToSingle(array.GetValue(i));
            return floats;
        }

        /// <summary>The elements as an array of their own type (ushort for 16-bit floating point, byte for Bool).</summary>
        /// <returns>The array of this tensor, not a copy.</returns>
        public Array ToArray()
        {
            return array ?? memory.ToArray();
        }

        /// <summary>Element type and sizes.</summary>
        /// <returns>Such as "Float32 (1, 3, 224, 224)".</returns>
        public override string ToString()
        {
            return ElementType + " (" + string.Join(", ", shape) + ")";
        }

        /// <summary>Lend the elements to the library until the result is disposed.</summary>
        internal LentTensor Lend()
        {
            return new LentTensor(array, memory, (int)ElementType, shape);
        }

        /// <summary>Copy a tensor of the library and free it; null for NULL.</summary>
        internal static Tensor Take(IntPtr pointer)
        {
            if (pointer == IntPtr.Zero)
                return null;
            using (var handle = new TensorHandle(pointer, true))
                return new Tensor(handle);
        }

        /// <summary>Copy several and free them all, whatever happens.</summary>
        internal static Tensor[] TakeAll(IntPtr[] pointers)
        {
            var taken = new Tensor[pointers.Length];
            try
            {
                for (int i = 0; i < pointers.Length; i++)
                {
                    IntPtr pointer = pointers[i];
                    pointers[i] = IntPtr.Zero;
                    taken[i] = Take(pointer);
                }
            }
            finally
            {
                foreach (IntPtr pointer in pointers)
                    Native.xai_tensor_free(pointer);
            }
            return taken;
        }

        private static long[] CheckedShape(long[] shape, long count)
        {
            if (shape == null)
                throw new ArgumentNullException(nameof(shape));
            if (shape.Length > Constants.XAI_MAX_RANK)
                throw new XaiException(Status.Shape, "shape: " + shape.Length + " axes; at most " + Constants.XAI_MAX_RANK, "shape");
            bool fits = true;
            long product = 1;
            foreach (long size in shape)
            {
                fits &= size >= 0 && (size == 0 || product <= long.MaxValue / size);
                product = fits ? product * size : 0;
            }
            if (!fits || product != count)
                throw new XaiException(Status.Shape,
                    "shape: (" + string.Join(", ", shape) + ") does not describe " + count + " values", "shape");
            return (long[])shape.Clone();
        }

        private static Type ArrayElement(ElementType type)
        {
            switch (type)
            {
            case ElementType.Float32: return typeof(float);
            case ElementType.Float64: return typeof(double);
            case ElementType.UInt8:
            case ElementType.Bool: return typeof(byte);
            case ElementType.Int8: return typeof(sbyte);
            case ElementType.UInt16:
            case ElementType.Float16:
            case ElementType.BFloat16: return typeof(ushort);
            case ElementType.Int16: return typeof(short);
            case ElementType.Int32: return typeof(int);
            case ElementType.UInt32: return typeof(uint);
            case ElementType.Int64: return typeof(long);
            case ElementType.UInt64: return typeof(ulong);
            default: throw new XaiException(Status.Argument, "unknown element type " + (int)type, "elementType");
            }
        }

        private static unsafe void CopyOut(IntPtr from, Array to)
        {
            GCHandle pinned = GCHandle.Alloc(to, GCHandleType.Pinned);
            try
            {
                long bytes = Buffer.ByteLength(to);
                Buffer.MemoryCopy((void*)from, (void*)pinned.AddrOfPinnedObject(), bytes, bytes);
            }
            finally
            {
                pinned.Free();
            }
        }
    }

    /// <summary>A tensor of the library over pinned memory of .NET.</summary>
    internal sealed class LentTensor : IDisposable
    {
        private readonly TensorHandle handle;
        private GCHandle pinnedArray;
        private MemoryHandle pinnedMemory;

        internal unsafe LentTensor(Array array, ReadOnlyMemory<float> memory, int elementType, long[] shape)
        {
            try
            {
                IntPtr data;
                if (array != null)
                {
                    pinnedArray = GCHandle.Alloc(array, GCHandleType.Pinned);
                    data = pinnedArray.AddrOfPinnedObject();
                }
                else
                {
                    pinnedMemory = memory.Pin();
                    data = (IntPtr)pinnedMemory.Pointer;
                }
                var made = new IntPtr[1];
                var error = new IntPtr[1];
                XaiException.Check(Native.xai_tensor_wrap(elementType, shape.Length, shape, data, made, error), error);
                handle = new TensorHandle(made[0], true);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public void Dispose()
        {
            if (handle != null)
                handle.Dispose();
            if (pinnedArray.IsAllocated)
                pinnedArray.Free();
            pinnedMemory.Dispose();
        }

        /// <summary>Lend several for one call; disposing the list gives them all back.</summary>
        internal static LentList LendAll(Tensor[] tensors)
        {
            return new LentList(tensors);
        }

        /// <summary>Inputs of one call.</summary>
        internal sealed class LentList : IDisposable
        {
            private readonly LentTensor[] lent;

            internal LentList(Tensor[] tensors)
            {
                if (tensors == null)
                    throw new ArgumentNullException("inputs");
                lent = new LentTensor[tensors.Length];
                Pointers = new IntPtr[tensors.Length];
                try
                {
                    for (int i = 0; i < tensors.Length; i++)
                    {
                        if (tensors[i] == null)
                            throw new ArgumentNullException("inputs");
                        lent[i] = tensors[i].Lend();
                        // Only this list disposes the handle, after the call.
                        Pointers[i] = lent[i].handle.DangerousGetHandle();
                    }
                }
                catch
                {
                    Dispose();
                    throw;
                }
            }

            internal IntPtr[] Pointers { get; }

            internal UIntPtr Count
            {
                get { return (UIntPtr)(uint)Pointers.Length; }
            }

            internal TensorHandle Handle(int index)
            {
                return lent[index].handle;
            }

            public void Dispose()
            {
                foreach (LentTensor each in lent)
                    if (each != null)
                        each.Dispose();
            }
        }
    }
}
