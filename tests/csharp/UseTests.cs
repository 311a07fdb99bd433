using System;
using System.IO;
using System.Linq;
using System.Threading;
using LibXai;

namespace Tests
{
    /// <summary>Wrong use, lifetimes, threads.</summary>
    public static class UseTests
    {
        public static void NullIsRefused()
        {
            Check.Throws<ArgumentNullException>(() => Model.Load((string)null));
            Check.Throws<ArgumentNullException>(() => Model.Load((byte[])null));
            Check.Throws<ArgumentNullException>(() => new Session(null));
            Check.Throws<ArgumentNullException>(() => new Explainer(null, "gradcam"));
            Check.Throws<ArgumentNullException>(() => new Tensor((Array)null, ElementType.Float32, 1));
            Check.Throws<ArgumentNullException>(() => Target.Label(null));
            using (Model model = Model.Load(Files.Small))
            using (var session = new Session(model))
            {
                Check.Throws<ArgumentNullException>(() => new Explainer(model, null));
                Check.Throws<ArgumentNullException>(() => session.Run((Tensor)null));
                Check.Throws<ArgumentNullException>(() => session.Run(null));
                Check.Throws<ArgumentNullException>(() => model.Explain(null));
                Check.Throws<ArgumentNullException>(() => session.Gradients(new[] { Files.RampTensor() }, null));
            }
        }

        public static void DisposedObjectsAreRefused()
        {
            Model model = Model.Load(Files.Small);
            var session = new Session(model);
            var explainer = new Explainer(model, "gradcam");
            Explanation explanation = explainer.Explain(Files.RampTensor());
            float[] map = explanation.Map;
            foreach (IDisposable each in new IDisposable[] { explanation, explainer, session, model, model, session, explainer, explanation })
                each.Dispose();
            Check.Throws<ObjectDisposedException>(() => model.Run(Files.RampTensor()));
            Check.Throws<ObjectDisposedException>(() => model.Explain(Files.RampTensor()));
            Check.Throws<ObjectDisposedException>(() => session.Run(Files.RampTensor()));
            Check.Throws<ObjectDisposedException>(() => explainer.Explain(Files.RampTensor()));
            Check.Throws<ObjectDisposedException>(() => explanation.Json.ToString());
            Check.Throws<ObjectDisposedException>(() => explanation.Values.ToString());
            Check.Equal(map, explanation.Map, "a map that was read before");
            Check.Equal("activation", explanation.Layer);
            Check.Equal("image", model.Inputs[0].Name);
        }

        public static void ChildrenOutliveTheirModel()
        {
            Explainer explainer;
            Session session;
            using (Model model = Model.Load(Files.Small))
            {
                explainer = new Explainer(model, "gradcam");
                session = new Session(model);
            }
            GC.Collect();
            GC.WaitForPendingFinalizers();
            Explanation explanation = explainer.Explain(Files.RampTensor());
            explainer.Dispose();
            Check.Equal((double)session.Run(Files.RampTensor())[0].ToFloats().Max(), explanation.Scores[0], "score");
            session.Dispose();
            Check.True(explanation.Map.Max() <= 1, "map");
            explanation.Dispose();
        }

        public static void WrongShapesAreRefused()
        {
            Check.Fails(Status.Shape, () => new Tensor(new float[5], 2, 3), "(2, 3)", "shape");
            Check.Fails(Status.Shape, () => new Tensor(new float[4], -2, -2), "-2", "shape");
            Check.Fails(Status.Shape, () => new Tensor(new float[1], long.MaxValue, 4), "", "shape");
            Check.Fails(Status.Shape, () => new Tensor(new float[1], 1, 1, 1, 1, 1, 1, 1, 1, 1), "9 axes", "shape");
            Check.Fails(Status.Argument, () => new Tensor(new double[4], ElementType.Float32, 4), "Double[]");
            using (Model model = Model.Load(Files.Small))
            using (var explainer = new Explainer(model, "gradcam"))
            {
                Check.Fails(Status.Shape, () => explainer.Explain(new Tensor(new float[128], 1, 1, 8, 16)), "image");
                Check.Fails(Status.Shape, () => explainer.Explain(new Tensor(new float[256], 256)), "image");
                Check.Fails(Status.Shape, () => explainer.Explain(Files.RampTensor(2), Target.Rows(0, 1, 2)));
                Check.Throws<XaiException>(() => explainer.Explain(new Tensor(new double[256], ElementType.Float64, 1, 1, 16, 16)));
                float[] hole = Files.Ramp(1);
                hole[7] = float.NaN;
                Check.Fails(Status.Numeric, () => explainer.Explain(new Tensor(hole, 1, 1, 16, 16)));
                explainer.Explain(Files.RampTensor()).Dispose(); // and it still works
            }
        }

        public static void UnknownNamesAreRefused()
        {
            Check.Fails(Status.File, () => Model.Load("/nicht/da.onnx"), "no such file", "/nicht/da.onnx");
            Check.Fails(Status.Format, () => Model.Load(new byte[] { 1, 2, 3 }));
            Check.Fails(Status.Argument, () => Model.Load("a\0b"), "NUL", "path");
            using (Model model = Model.Load(Files.Small))
            {
                Check.Fails(Status.NotFound, () => new Explainer(model, "grad-cam"), "gradcam");
                Check.Fails(Status.NotFound, () => model.Explain(Files.RampTensor(), "gradcam", "Ergus"), "Ergus");
                Check.Fails(Status.NotFound, () => model.Explain(Files.RampTensor(), "gradcam", 3), "3");
                Check.Fails(Status.NotFound, () => model.Explain(Files.RampTensor(), "gradcam", Target.Index(0).Of("nothing")), "nothing");
                Check.Fails(Status.NotFound,
                    () => model.Explain(Files.RampTensor(), "gradcam", 0, new ExplainerOptions { Layer = "nothing" }), "nothing");
                Check.Fails(Status.Argument, () => new Session(model, new SessionOptions { Threads = -1 }));
                Check.Fails(Status.Argument, () => new Session(model, new SessionOptions { Mode = (Mode)9 }));
                using (Explanation found = model.Explain(Files.RampTensor()))
                {
                    Check.Fails(Status.NotFound, () => found.Overlay(new byte[4], 2, 2, 1, colours: "jet"), "jet");
                    Check.Fails(Status.Shape, () => found.Overlay(new byte[5], 2, 2, 1), "5");
                    Check.Fails(Status.Argument, () => found.Overlay(new byte[4], 2, 2, 1, 7));
                    double strongest;
                    Check.Fails(Status.Argument,
                        () => found.Overlay(new byte[4], 2, 2, 1, new Display { Percentile = 0 }, out strongest), "percentile 0");
                    Check.Fails(Status.NotFound,
                        () => found.Overlay(new byte[4], 2, 2, 1, new Display { Colours = "jet" }, out strongest), "jet");
                    Check.Throws<ArgumentNullException>(() => found.Overlay(new byte[4], 2, 2, 1, null, out strongest));
                }
            }
        }

        public static void PathsMayHaveAnyLetters()
        {
            string folder = Path.Combine(Path.GetTempPath(), "Röntgen 画像 " + Guid.NewGuid().ToString("N"));
            Directory.CreateDirectory(folder);
            try
            {
                File.Copy(Files.Small, Path.Combine(folder, "Lunge ü.onnx"));
                using (Model model = Model.Load(Path.Combine(folder, "Lunge ü.onnx")))
                    Check.Equal("結節", model.Labels[1]);
                XaiException missing = Check.Fails(Status.File, () => Model.Load(Path.Combine(folder, "ß.onnx")));
                Check.True(missing.Place.EndsWith("ß.onnx"), missing.Place);
            }
            finally
            {
                Directory.Delete(folder, true);
            }
        }

        private sealed class Reports : IProgress<ProgressReport>
        {
            private readonly Action<ProgressReport> action;

            internal Reports(Action<ProgressReport> action)
            {
                this.action = action;
            }

            public void Report(ProgressReport report)
            {
                action(report);
            }
        }

        public static void ProgressRisesToTheTotal()
        {
            using (Model model = Model.Load(Files.Small))
            using (var session = new Session(model))
            using (var explainer = new Explainer(model, "gradcam"))
            {
                foreach (bool explain in new[] { false, true })
                {
                    long last = 0, total = -1;
                    bool rises = true;
                    var reports = new Reports(report =>
                    {
                        GC.Collect(); // the delegate must not move or go
                        rises &= report.Done >= last;
                        last = report.Done;
                        total = report.Total;
                    });
                    if (explain)
                        explainer.Explain(Files.RampTensor(8), null, reports).Dispose();
                    else
                        session.Run(new[] { Files.RampTensor(8) }, reports, CancellationToken.None);
                    Check.True(rises && total > 0, "rises");
                    Check.Equal(total, last, "ends at the total");
                }
            }
        }

        public static void ATokenStopsTheCall()
        {
            using (Model model = Model.Load(Files.Small))
            using (var explainer = new Explainer(model, "gradcam", new ExplainerOptions { Session = new SessionOptions { Threads = 1 } }))
            {
                var source = new CancellationTokenSource();
                long done = 0;
                var reports = new Reports(report =>
                {
                    done = report.Done;
                    source.Cancel();
                });
                OperationCanceledException stopped = Check.Throws<OperationCanceledException>(
                    () => explainer.Explain(Files.RampTensor(64), null, reports, source.Token));
                Check.Equal(source.Token, stopped.CancellationToken);
                Check.True(done < 64, "stopped after " + done + " rows");
                Check.Throws<OperationCanceledException>(() => explainer.Explain(Files.RampTensor(), null, null, source.Token));
                explainer.Explain(Files.RampTensor()).Dispose(); // it is not spoilt
            }
        }

        public static void AnExceptionInProgressComesOut()
        {
            using (Model model = Model.Load(Files.Small))
            using (var session = new Session(model))
            {
                var reports = new Reports(report => { throw new InvalidDataException("from the report"); });
                Check.Throws<InvalidDataException>(
                    () => session.Run(new[] { Files.RampTensor(4) }, reports, CancellationToken.None), "from the report");
                Tensor[] inner = null;
                reports = new Reports(report => inner = session.Run(Files.RampTensor()));
                Check.Throws<InvalidOperationException>(
                    () => session.Run(new[] { Files.RampTensor(4) }, reports, CancellationToken.None), "one call at a time");
                Check.True(inner == null, "no call within a call");
                Check.Equal(3, session.Run(Files.RampTensor())[0].Count);
            }
        }

        public static void TwoThreadsShareAModel()
        {
            using (Model model = Model.Load(Files.Chest))
            {
                var values = new float[128 * 128];
                for (int i = 0; i < values.Length; i++)
                    values[i] = (float)Math.Sin(0.01 * i) * 0.5f;
                var input = new Tensor(values, 1, 1, 128, 128);
                float[] expected;
                using (Explanation once = model.Explain(input, "gradcam", 0))
                    expected = once.Map;
                Exception problem = null;
                ThreadStart work = () =>
                {
                    try
                    {
                        using (var explainer = new Explainer(model, "gradcam"))
                            for (int i = 0; i < 25; i++)
                                using (Explanation found = explainer.Explain(input, 0))
                                    Check.Same(expected, found.Map, "map");
                    }
                    catch (Exception caught)
                    {
                        problem = caught;
                    }
                };
                var threads = new[] { new Thread(work), new Thread(work) };
                foreach (Thread each in threads)
                    each.Start();
                foreach (Thread each in threads)
                    each.Join();
                if (problem != null)
                    throw problem;
            }
        }

        public static void AnExplainerInUseIsRefusedToOthers()
        {
            using (Model model = Model.Load(Files.Small))
            using (var explainer = new Explainer(model, "gradcam"))
            {
                Exception other = null;
                var reports = new Reports(report =>
                {
                    var thread = new Thread(() =>
                    {
                        try { explainer.Explain(Files.RampTensor()).Dispose(); }
                        catch (Exception caught) { other = caught; }
                    });
                    thread.Start();
                    thread.Join();
                });
                explainer.Explain(Files.RampTensor(), null, reports).Dispose();
                Check.True(other is InvalidOperationException, "the other thread got " + other);
            }
        }

        public static void DisposalDuringACallWaitsForItsEnd()
        {
            using (Model model = Model.Load(Files.Small))
            {
                var explainer = new Explainer(model, "gradcam");
                var reports = new Reports(report => explainer.Dispose());
                using (Explanation found = explainer.Explain(Files.RampTensor(8), null, reports))
                    Check.Equal(8, found.RowCount);
                Check.Throws<ObjectDisposedException>(() => explainer.Explain(Files.RampTensor()));
            }
        }
    }
}
