using System;

namespace LibXai
{
    /// <summary>What went wrong.</summary>
    public enum Status
    {
        /// <summary>Nothing.</summary>
        Ok = Constants.XAI_OK,
        /// <summary>An argument is missing or out of range, or the method has no such option.</summary>
        Argument = Constants.XAI_ERROR_ARGUMENT,
        /// <summary>No memory, or the memory limit of the session would be exceeded.</summary>
        Memory = Constants.XAI_ERROR_MEMORY,
        /// <summary>A file cannot be opened, read or written.</summary>
        File = Constants.XAI_ERROR_FILE,
        /// <summary>The bytes are not a valid model.</summary>
        Format = Constants.XAI_ERROR_FORMAT,
        /// <summary>A valid model or request needs something that libxai lacks.</summary>
        Unsupported = Constants.XAI_ERROR_UNSUPPORTED,
        /// <summary>A tensor does not fit the model.</summary>
        Shape = Constants.XAI_ERROR_SHAPE,
        /// <summary>No input, output, layer, label, option or method of that name.</summary>
        NotFound = Constants.XAI_ERROR_NOT_FOUND,
        /// <summary>The call was stopped.</summary>
        Cancelled = Constants.XAI_ERROR_CANCELLED,
        /// <summary>A NaN or infinity in the input or in a result.</summary>
        Numeric = Constants.XAI_ERROR_NUMERIC,
        /// <summary>A defect of libxai; please report it.</summary>
        Internal = Constants.XAI_ERROR_INTERNAL
    }

    /// <summary>A failure that libxai reports: what, where, and what to do about it.</summary>
    public class XaiException : Exception
    {
        /// <summary>Make an exception.</summary>
        /// <param name="status">What went wrong.</param>
        /// <param name="message">The whole message, place included.</param>
        /// <param name="place">Node, file, input or option that it is about; may be empty.</param>
        public XaiException(Status status, string message, string place) : base(message)
        {
            Status = status;
            Place = place ?? "";
        }

        /// <summary>What went wrong.</summary>
        public Status Status { get; }

        /// <summary>Node, file, input or option that it is about; "" when nowhere special.</summary>
        public string Place { get; }

        /// <summary>Throw what a call of the library reports.</summary>
        /// <param name="status">Its result.</param>
        /// <param name="error">One element, the last argument of the call.</param>
        internal static void Check(int status, IntPtr[] error)
        {
            if (status == Constants.XAI_OK)
                return;
            if (error[0] == IntPtr.Zero)
                throw new XaiException((Status)status, Utf8.Decode(Native.xai_status_name(status)), "");
            using (var handle = new ErrorHandle(error[0], true))
            {
                error[0] = IntPtr.Zero;
                throw new XaiException((Status)status, Utf8.Decode(Native.xai_error_message(handle)),
                    Utf8.Decode(Native.xai_error_place(handle)));
            }
        }
    }
}
