using System;
using System.Runtime.InteropServices;

namespace LibXai
{
    /// <summary>
    /// A pointer to an object of the library. While a call runs, the runtime keeps the object alive, even when another
    /// thread disposes it; after disposal a call throws <see cref="ObjectDisposedException"/>.
    /// </summary>
    internal abstract class NativeHandle : SafeHandle
    {
        protected NativeHandle(IntPtr pointer, bool owned) : base(IntPtr.Zero, owned)
        {
            SetHandle(pointer);
        }

        public override bool IsInvalid
        {
            get { return handle == IntPtr.Zero; }
        }
    }

    /// <summary>Several handles as an array of pointers, all kept alive until it is disposed.</summary>
    internal sealed class HandleList : IDisposable
    {
        private readonly NativeHandle[] handles;
        private readonly bool owned;
        private int taken;

        /// <param name="handles">A null entry becomes NULL.</param>
        /// <param name="owned">Whether the handles are disposed with the list.</param>
        internal HandleList(NativeHandle[] handles, bool owned)
        {
            this.handles = handles;
            this.owned = owned;
            Pointers = new IntPtr[handles.Length];
            try
            {
                for (; taken < handles.Length; taken++)
                {
                    if (handles[taken] == null)
                        continue;
                    bool added = false;
                    handles[taken].DangerousAddRef(ref added);
                    Pointers[taken] = handles[taken].DangerousGetHandle();
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

        public void Dispose()
        {
            for (int i = 0; i < taken; i++)
                if (handles[i] != null)
                    handles[i].DangerousRelease();
            taken = 0;
            for (int i = 0; owned && i < handles.Length; i++)
                if (handles[i] != null)
                    handles[i].Dispose();
        }
    }
}
