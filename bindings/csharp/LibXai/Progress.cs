using System;
using System.Runtime.ExceptionServices;
using System.Threading;

namespace LibXai
{
    /// <summary>How far a long call is.</summary>
    public struct ProgressReport
    {
        internal ProgressReport(long done, long total)
        {
            Done = done;
            Total = total;
        }

        /// <summary>Pieces of work finished.</summary>
        public long Done { get; }

        /// <summary>Pieces of work in all.</summary>
        public long Total { get; }
    }

    /// <summary>
    /// The link between the callback of the library and what the caller of .NET gave for one call. A session or explainer keeps
    /// one as long as it lives, and with it the delegate that the library calls.
    /// </summary>
    internal sealed class Watch
    {
        private IProgress<ProgressReport> progress;
        private CancellationToken token;
        private ExceptionDispatchInfo raised;
        private int busy;

        internal Watch()
        {
            Callback = Report;
        }

        internal NativeProgress Callback { get; }

        /// <summary>Run one call of the library.</summary>
        /// <param name="call">The call; its argument is an array of one for the error.</param>
        /// <param name="reports">Takes reports on any thread; may be null.</param>
        /// <param name="cancellation">Stops the call.</param>
        internal void Run(Func<IntPtr[], int> call, IProgress<ProgressReport> reports, CancellationToken cancellation)
        {
            cancellation.ThrowIfCancellationRequested();
            // The library may not be entered twice: neither by two threads nor from a report.
            if (Interlocked.CompareExchange(ref busy, 1, 0) != 0)
                throw new InvalidOperationException(
                    "a session or explainer serves one call at a time: make one for each thread");
            try
            {
                progress = reports;
                token = cancellation;
                raised = null;
                var error = new IntPtr[1];
                int status = call(error);
                if (status == Constants.XAI_ERROR_CANCELLED && (raised != null || token.IsCancellationRequested))
                {
                    Native.xai_error_free(error[0]);
                    if (raised != null)
                        raised.Throw();
                    throw new OperationCanceledException(token);
                }
                XaiException.Check(status, error);
            }
            finally
            {
                progress = null;
                token = CancellationToken.None;
                raised = null;
                Volatile.Write(ref busy, 0);
                GC.KeepAlive(this);
            }
        }

        private int Report(IntPtr user, UIntPtr done, UIntPtr total)
        {
            try
            {
                if (progress != null)
                    progress.Report(new ProgressReport((long)done, (long)total));
                return token.IsCancellationRequested ? 1 : 0;
            }
            catch (Exception exception) // must not cross the library: stops the call and is thrown after it
            {
                raised = ExceptionDispatchInfo.Capture(exception);
                return 1;
            }
        }
    }
}
