using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using LibXai;
using Viewer;

namespace Tests
{
    /// <summary>The numbers: those of the program, of brute force, of the headers.</summary>
    public static class ResultTests
    {
        public static void EveryImportExistsInTheLibrary()
        {
            Marshal.PrelinkAll(typeof(Model).Assembly.GetType("LibXai.Native"));
        }

        public static void TheLibraryTellsItsVersionAndMethods()
        {
            Check.Equal(Environment.GetEnvironmentVariable("XAI_VERSION"), Library.Version);
            Check.Equal(1, Library.AbiVersion);
            Check.True(Library.MathLibrary.Length > 0, "math library");
            Check.True(Library.Methods.Any(each => each.Name == "gradcam++" && each.Description.Contains("Chattopadhyay")),
                "gradcam++ is listed");
        }

        public static void AModelTellsItsFacts()
        {
            using (Model model = Model.Load(Files.Small))
            {
                Check.Equal("image", model.Inputs.Single().Name);
                Check.Equal(ElementType.Float32, model.Inputs[0].ElementType);
                Check.Same(new long[] { -1, 1, 16, 16 }, model.Inputs[0].Shape);
                Check.Same(new[] { "batch", "", "", "" }, model.Inputs[0].AxisNames);
                Check.Equal("scores", model.Outputs.Single().Name);
                Check.Same(new[] { "Erguß", "結節", "7" }, model.Labels);
                Check.Equal("logit-sigmoid", model.ScoreMeaning);
                Check.Equal("logit-sigmoid", model.Metadata["xai.output.score"]);
                Check.Same(new double[] { 0, 1 }, model.InputRange);
                Check.Same(new[] { 0.5 }, model.InputMean);
                Check.Same(new[] { 0.25 }, model.InputDeviation);
                Check.Same(new long[] { 16, 16 }, model.InputSize);
                Check.Equal(1L, model.InputChannels);
                Check.Equal(17L, model.Opset());
                Check.Equal(8L, model.IrVersion);
                Check.Equal(0L, model.FindInput("image"));
                Check.Equal(-1L, model.FindOutput("image"));
                Check.Equal("activation", model.DefaultLayer.Name);
                Check.Equal("Relu", model.Layers.Single(each => each.Name == "activation").Operator);
            }
        }

        private static void SameAsProgram(string name, string modelPath, string imagePath, string label, string method)
        {
            Png image = Png.Read(imagePath);
            string facts = File.ReadAllText(name + ".json");
            using (Model model = Model.Load(modelPath))
            using (Explanation found = model.Explain(model.ImageInput(image.Pixels, image.Width, image.Height), method, label))
            {
                Check.Same(Files.Npy(name + ".npy"), found.Map, "map");
                Check.Same(Files.Npy(name + ".values.npy"), found.Values, "values");
                string score = Regex.Match(facts, "\"score\": *([-0-9.e+]+)").Groups[1].Value;
                Check.Equal(double.Parse(score, System.Globalization.CultureInfo.InvariantCulture), found.Scores[0], "score");
                Check.Equal(label, found.Labels[0]);
                byte[] overlay = found.Overlay(image.Bytes, image.Width, image.Height, 1);
                Check.Same((byte[])Png.Read(name + ".png").Pixels, overlay, "overlay");
                Check.True(found.Map.Max() > 0.5 && found.Map.Max() <= 1 && found.Map.Min() >= 0, "a map in [0, 1]");
            }
        }

        public static void MapsScoresAndOverlaysAreThoseOfTheProgram()
        {
            foreach (string line in File.ReadAllLines("cases.txt"))
            {
                string[] word = line.Split('|');
                SameAsProgram(word[0], word[1], word[2], word[3], word[4]);
            }
        }

        public static void ADisplayDrawsAsTheProgramDoesAndChangesNoNumber()
        {
            Png image = Png.Read("display.source.png");
            string facts = File.ReadAllText("display.json");
            using (Model model = Model.Load(Files.Small))
            using (Explanation found = model.Explain(model.ImageInput(image.Pixels, image.Width, image.Height),
                "integrated_gradients", 1))
            {
                float[] before = found.Map.ToArray();
                double strongest;
                byte[] plain = found.Overlay(image.Bytes, image.Width, image.Height, 1, new Display(), out strongest);
                Check.Same(found.Overlay(image.Bytes, image.Width, image.Height, 1), plain, "without a change");
                Check.Equal(1.0, strongest, "strongest");
                var display = new Display { Percentile = 90, Smoothing = 1.5, Contour = 0.5, Alpha = 0.75, Colours = "inferno" };
                byte[] drawn = found.Overlay(image.Bytes, image.Width, image.Height, 1, display, out strongest);
                Check.Same((byte[])Png.Read("display.png").Pixels, drawn, "as the program draws");
                string told = Regex.Match(facts, "\"strongest\": *([-0-9.e+]+)").Groups[1].Value;
                Check.Near(double.Parse(told, System.Globalization.CultureInfo.InvariantCulture), strongest, 1e-8, "strongest");
                Check.Same(before, found.Map, "map");
            }
        }

        public static void AGradientIsTheSlopeOfTheScore()
        {
            using (Model model = Model.Load(Files.Small))
            using (var session = new Session(model, new SessionOptions { Precision = Precision.Reference }))
            {
                float[] values = Files.Ramp(1);
                float[] gradient = session.Gradient(new Tensor(values, 1, 1, 16, 16), 1).ToFloats();
                const float step = 1f / 64; // exact in float; the model is linear but for its ReLU
                for (int at = 0; at < 256; at += 17)
                {
                    float keep = values[at];
                    values[at] = keep + step;
                    float above = session.Run(new Tensor(values, 1, 1, 16, 16))[0].ToFloats()[1];
                    values[at] = keep - step;
                    float below = session.Run(new Tensor(values, 1, 1, 16, 16))[0].ToFloats()[1];
                    values[at] = keep;
                    Check.Near((above - below) / (2 * step), gradient[at], 2e-3, "pixel " + at);
                }
            }
        }

        /// <summary>v(all) - v(all but one), by calling the model; the mask stays.</summary>
        public static void TokensAreMaskedWhereABaselineIsNamed()
        {
            string path = Path.Combine(Environment.GetEnvironmentVariable("XAI_SOURCE_ROOT"),
                "tests", "parity", "families", "text.onnx");
            long[] ids = { 5, 9, 2, 28, 14, 3, 3, 17, 21, 8 };
            long[] mask = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 0 };
            Func<long[], Tensor> tensor = values => new Tensor(values, ElementType.Int64, 1, 10);
            var options = new ExplainerOptions();
            options["baseline"] = new[] { new Tensor(new long[] { 4 }, ElementType.Int64, new long[0]), null };
            using (Model model = Model.Load(path))
            using (var session = new Session(model))
            using (var explainer = new Explainer(model, "feature_ablation", options))
            using (Explanation found = explainer.Explain(new[] { tensor(ids), tensor(mask) }, new Target[] { 1 })[0])
            {
                Check.Equal("'ids': 4; as they are: 'mask'", found.Baseline);
                Check.Equal(1L, (long)found.Parts.Count);
                Func<long[], float> score = values => session.Run(tensor(values), tensor(mask))[0].ToFloats()[1];
                for (int i = 0; i < ids.Length; i++)
                {
                    var without = (long[])ids.Clone();
                    without[i] = 4;
                    Check.Near(score(ids) - score(without), found.Values[i], 1e-6, "token " + i);
                }
            }
        }

        public static void RowsAreIndependentAndHaveTheirOwnTargets()
        {
            using (Model model = Model.Load(Files.Small))
            using (var explainer = new Explainer(model, "gradcam"))
            using (Explanation both = explainer.Explain(Files.RampTensor(2), Target.Rows("結節", 0)))
            using (Explanation second = explainer.Explain(new Tensor(Files.Ramp(2).AsMemory(256), 1, 1, 16, 16), 0))
            {
                Check.Same(new long[] { 2, 16, 16 }, both.MapShape, "shape");
                Check.Same(new long[] { 1, 0 }, both.Targets, "targets");
                Check.Same(new[] { "結節", "Erguß" }, both.Labels, "labels");
                Check.Same(second.Map, both.Map.Skip(256).ToArray(), "map of the second row");
                Check.Equal(second.Scores[0], both.Scores[1], "score of the second row");
            }
        }

        public static void SeveralTargetsShareAForwardPass()
        {
            using (Model model = Model.Load(Files.Small))
            using (var explainer = new Explainer(model, "gradcam++"))
            {
                Explanation[] found = explainer.Explain(new[] { Files.RampTensor() }, new Target[] { null, 2, "Erguß" });
                float[] scores = model.Run(Files.RampTensor()).ToFloats();
                Check.Near(scores.Max(), found[0].Scores[0], 1e-6, "highest");
                Check.Near(scores[2], found[1].Scores[0], 1e-6, "index");
                Check.Near(scores[0], found[2].Scores[0], 1e-6, "label");
                foreach (Explanation each in found)
                    each.Dispose();
            }
        }

        public static void OptionsReachTheMethod()
        {
            using (Model model = Model.Load(Files.Small))
            {
                var options = new ExplainerOptions
                {
                    Layer = "features", Score = ScoreKind.Probability, Session = new SessionOptions { Threads = 1, Mode = Mode.Throughput }
                };
                using (Explanation found = model.Explain(Files.RampTensor(), "gradcam", 1, options))
                {
                    double raw = model.Run(Files.RampTensor()).ToFloats()[1];
                    Check.Equal("features", found.Layer);
                    Check.Equal(ScoreKind.Probability, found.ScoreKind);
                    Check.Near(1 / (1 + Math.Exp(-raw)), found.Scores[0], 1e-6, "sigmoid");
                    Check.True(double.IsNaN(found.BaseValues[0]), "no base value");
                    Check.True(found.Evaluations[0] >= 1, "evaluations");
                    Check.True(found.Json.Contains("結節"), "UTF-8 in JSON");
                }
                options.Session.MemoryLimit = 16;
                Check.Fails(Status.Memory, () => model.Explain(Files.RampTensor(), "gradcam", 1, options));
            }
        }

        public static void OptionsAreGivenByName()
        {
            using (Model model = Model.Load(Files.Small))
            {
                var options = new ExplainerOptions();
                options["layer"] = "features";
                using (Explanation found = model.Explain(Files.RampTensor(), "gradcam", 1, options))
                    Check.Equal("features", found.Layer);
                options["layer"] = null;
                using (Explanation found = model.Explain(Files.RampTensor(), "gradcam", 1, options))
                    Check.Equal("activation", found.Layer);
                options["nothing"] = 3;
                Check.Equal((object)3, options["nothing"]);
                Check.Fails(Status.Argument, () => model.Explain(Files.RampTensor(), "gradcam", 1, options), "nothing");
                options["nothing"] = DateTime.Now;
                Check.Fails(Status.Argument, () => model.Explain(Files.RampTensor(), "gradcam", 1, options), "DateTime", "nothing");
                MethodDescription method = Library.Methods.Single(each => each.Name == "gradcam");
                Check.True(method.Options.Single(each => each.Name == "layer").TakesText, "kinds");
            }
        }

        /// <summary>Whatever methods there are: those with a base value add up to score - base value.</summary>
        public static void AttributionsOfEveryMethodAddUp()
        {
            using (Model model = Model.Load(Files.Small))
                foreach (MethodDescription method in Library.Methods)
                {
                    var options = new ExplainerOptions();
                    foreach (OptionDescription each in method.Options)
                    {
                        if (each.Name == "background")
                            options["background"] = Files.RampTensor(3);
                        if (each.Name == "seed")
                            options["seed"] = 1;
                        if (each.Name == "segments")
                            options["segments"] = "grid:3";
                    }
                    try
                    {
                        using (Explanation found = model.Explain(Files.RampTensor(), method.Name, 1, options))
                        {
                            Check.True(found.Values.All(each => !float.IsNaN(each) && !float.IsInfinity(each)), method.Name);
                            Check.Equal(found.Values.Length, (int)found.ValuesShape.Aggregate((a, b) => a * b), method.Name);
                            Check.Equal(found.Values[0], found.Parts[0].Values.ToFloats()[0], method.Name + " part");
                            if (!double.IsNaN(found.CompletenessErrors[0]))
                                Check.Near(found.Scores[0] - found.BaseValues[0], found.Values.Sum(each => (double)each),
                                    found.CompletenessErrors[0] + 1e-4, method.Name);
                            if (found.SegmentValues != null)
                                Check.Near(found.Values.Sum(each => (double)each), found.SegmentValues.ToFloats().Sum(), 1e-4, method.Name);
                        }
                    }
                    catch (XaiException refused) when (refused.Status == Status.Unsupported)
                    {
                        Console.WriteLine("        " + refused.Message); // such as a method for trees
                    }
                }
        }

        public static void GradientsOfLayersAndPlans()
        {
            using (Model model = Model.Load(Files.Small))
            using (var session = new Session(model))
            {
                GradientResult found = session.Gradients(new[] { Files.RampTensor(2) }, new Target[] { 0, 1 }, wrt: new[] { "activation" });
                Check.Same(new long[] { 2, 4, 16, 16 }, found.Gradients[1][0].Shape, "shape");
                float[] scores = session.Run(Files.RampTensor(2))[0].ToFloats();
                Check.Near(scores[3 + 1], found.Scores[1][1], 1e-6, "score");
                Tensor pooled = session.Values(new[] { Files.RampTensor() }, "pooled")[0];
                Check.Same(new long[] { 1, 4, 1, 1 }, pooled.Shape, "pooled");
                // The mean over 256 pixels: every pixel of a channel has the same gradient.
                float[] gradient = found.Gradients[0][0].ToFloats();
                Check.Near(gradient[0], gradient[255], 1e-9, "even gradient");
                Plan plan = session.Plan(new[] { Files.RampTensor() }, "image");
                Check.True(plan.ArenaBytes > 0 && plan.Steps.Any(each => each.IsBackward) && plan.Steps[0].Node.Length > 0, "plan");
                Check.True(session.ArenaBytes > 0, "arena");
                Check.True(plan.Buffers.All(each => each.Offset >= 0 && each.Offset + each.Bytes <= plan.ArenaBytes), "buffers");
                Plan profile = session.Profile(new[] { Files.RampTensor() }, 3);
                Check.True(profile.Steps.Sum(each => each.Milliseconds) > 0, "times");
                Check.Fails(Status.Argument, () => session.Profile(new[] { Files.RampTensor() }, 0));
            }
        }

        public static void ImagesBecomeInputsLikeInThePicture()
        {
            using (Model model = Model.Load(Files.Small))
            {
                var bytes = new byte[256];
                var words = new ushort[256];
                for (int i = 0; i < 256; i++)
                {
                    bytes[i] = (byte)i;
                    words[i] = (ushort)(i * 16);
                }
                float[] input = model.ImageInput(bytes, 16, 16).ToFloats();
                float[] windowed = model.ImageInput(words, 16, 16, 1, 0, 255 * 16).ToFloats();
                float[] inverted = model.ImageInput(bytes, 16, 16, 1, 255, 0).ToFloats();
                for (int i = 0; i < 256; i++)
                {
                    Check.Near((i / 255.0 - 0.5) / 0.25, input[i], 1e-6, "byte");
                    Check.Near(input[i], windowed[i], 1e-6, "12 bits");
                    Check.Near(-input[i], inverted[i], 1e-6, "inverted");
                }
                Check.Fails(Status.Shape, () => model.ImageInput(bytes, 16, 15), "16");
                Check.Fails(Status.Argument, () => model.ImageInput(new double[256], 16, 16), "Double");
                Check.Fails(Status.Argument, () => model.ImageInput(bytes, 16, 16, 1, 5, 5), "white", "image");
            }
        }
    }
}
