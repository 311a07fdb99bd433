using System;
using System.Runtime.InteropServices;
using System.Text;

namespace LibXai
{
    /// <summary>Text between .NET (UTF-16) and the library (UTF-8, ended by a NUL).</summary>
    internal static class Utf8
    {
        /// <summary>Text for the library; null stays null (NULL).</summary>
        /// <exception cref="XaiException">The text contains a NUL, which the library would take for its end.</exception>
        internal static byte[] Encode(string text, string what)
        {
            if (text == null)
                return null;
            if (text.IndexOf('\0') >= 0)
                throw new XaiException(Status.Argument, what + ": the text contains a NUL character", what);
            byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
            Encoding.UTF8.GetBytes(text, 0, text.Length, bytes, 0);
            return bytes;
        }

        /// <summary>Text of the library; "" for NULL.</summary>
        internal static string Decode(IntPtr text)
        {
            if (text == IntPtr.Zero)
                return "";
            int length = 0;
            while (Marshal.ReadByte(text, length) != 0)
                length++;
            byte[] bytes = new byte[length];
            Marshal.Copy(text, bytes, 0, length);
            return Encoding.UTF8.GetString(bytes);
        }
    }

    /// <summary>Several texts as an array of pointers, valid until it is disposed.</summary>
    internal sealed class TextList : IDisposable
    {
        private readonly GCHandle[] pinned;

        internal TextList(string[] texts, string what)
        {
            pinned = new GCHandle[texts.Length];
            Pointers = new IntPtr[texts.Length];
            try
            {
                for (int i = 0; i < texts.Length; i++)
                {
                    if (texts[i] == null)
                        throw new ArgumentNullException(what);
                    pinned[i] = GCHandle.Alloc(Utf8.Encode(texts[i], what), GCHandleType.Pinned);
                    Pointers[i] = pinned[i].AddrOfPinnedObject();
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
            for (int i = 0; i < pinned.Length; i++)
                if (pinned[i].IsAllocated)
                    pinned[i].Free();
        }
    }
}
