using System;
using System.IO;
using System.Threading;
using LibXai;

namespace Tests
{
    /// <summary>Nothing grows, nothing is freed too early.</summary>
    public static class MemoryTests
    {
        private static readonly SessionOptions OneThread = new SessionOptions { Threads = 1 };

        private static void Round(byte[] file, bool dispose)
        {
            Model model = Model.Load(file);
            var session = new Session(model, OneThread);
            var explainer = new Explainer(model, "gradcam", new ExplainerOptions { Session = OneThread });
            Explanation explanation = explainer.Explain(Files.RampTensor(), "Erguß");
            Tensor scores = session.Run(Files.RampTensor())[0];
            if (explanation.Scores[0] != scores.ToFloats()[0])
                throw new Exception("the score is another: " + explanation.Scores[0] + ", " + scores.ToFloats()[0]);
            explanation.Overlay(new byte[256], 16, 16, 1);
            if (!dispose)
                return;
            explanation.Dispose();
            explainer.Dispose();
            session.Dispose();
            model.Dispose();
        }

        private static void Collect()
        {
            for (int i = 0; i < 3; i++)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }

        /// <summary>A leak of one handle, at least 64 bytes, would show as 640 kB in 10,000 rounds; the limit is 4 MB for what runtime
        /// and allocator keep. A whole model (3 kB), explainer or map leaks tens of MB.
        /// As many rounds before: the collector of .NET fills its first generation, tens of MB, before it collects.</summary>
        public static void TenThousandRoundsDoNotGrow()
        {
            byte[] file = File.ReadAllBytes(Files.Small);
            for (int i = 0; i < 10000; i++)
                Round(file, true);
            Collect();
            long before = Files.Resident();
            for (int i = 0; i < 10000; i++)
                Round(file, true);
            Collect();
            long growth = Files.Resident() - before;
            Check.True(growth < 4 << 20, "grew by " + growth + " bytes");
            Console.WriteLine("        10,000 rounds: " + growth / 1024 + " kB");
        }

        public static void WhatNobodyDisposesIsFreed()
        {
            byte[] file = File.ReadAllBytes(Files.Small);
            for (int i = 0; i < 300; i++)
                Round(file, false);
            Collect();
            long before = Files.Resident();
            for (int i = 0; i < 3000; i++)
            {
                Round(file, false);
                if (i % 100 == 0)
                    Collect();
            }
            Collect();
            long growth = Files.Resident() - before;
            Check.True(growth < 8 << 20, "grew by " + growth + " bytes");
        }

        public static void TenThousandFailuresDoNotGrow()
        {
            using (Model model = Model.Load(Files.Small))
            using (var explainer = new Explainer(model, "gradcam"))
            {
                long before = 0;
                for (int i = 0; i < 11000; i++)
                {
                    if (i == 1000)
                    {
                        Collect();
                        before = Files.Resident();
                    }
                    Check.Fails(Status.NotFound, () => explainer.Explain(Files.RampTensor(), "nothing"));
                }
                Collect();
                long growth = Files.Resident() - before;
                Check.True(growth < 4 << 20, "grew by " + growth + " bytes");
            }
        }

        /// <summary>The collector runs all the time on another thread, while inputs are pinned and callbacks come.</summary>
        public static void TheCollectorDisturbsNothing()
        {
            bool stop = false;
            var collector = new Thread(() =>
            {
                while (!Volatile.Read(ref stop))
                    GC.Collect();
            });
            collector.Start();
            try
            {
                byte[] file = File.ReadAllBytes(Files.Small);
                float[] expected = null;
                for (int i = 0; i < 60; i++)
                {
                    Round(file, i % 2 == 0);
                    using (Model model = Model.Load(file))
                    using (var session = new Session(model))
                    {
                        long reports = 0;
                        var progress = new Counter(() => reports++);
                        float[] scores = session.Run(new[] { new Tensor(Files.Ramp(4), 4, 1, 16, 16) }, progress, CancellationToken.None)[0].ToFloats();
                        expected = expected ?? scores;
                        Check.Same(expected, scores, "scores");
                        Check.True(reports > 0, "reports");
                    }
                }
            }
            finally
            {
                Volatile.Write(ref stop, true);
                collector.Join();
            }
        }

        private sealed class Counter : IProgress<ProgressReport>
        {
            private readonly Action count;

            internal Counter(Action count)
            {
                this.count = count;
            }

            public void Report(ProgressReport report)
            {
                count();
            }
        }
    }
}
