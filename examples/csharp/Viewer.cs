using System;
using System.Globalization;
using System.IO;
using LibXai;

namespace Viewer
{
    /// <summary>
    /// A viewer for the console: loads a picture, explains what the model sees in it, and writes the picture with the evidence
    /// drawn over it.
    ///     viewer MODEL.onnx IMAGE.png OVERLAY.png [LABEL] [METHOD]
    /// </summary>
    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            if (arguments.Length < 3 || arguments.Length > 5)
            {
                Console.Error.WriteLine("usage: viewer MODEL.onnx IMAGE.png OVERLAY.png [LABEL] [METHOD]");
                return 2;
            }
            CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
            try
            {
                Show(arguments[0], arguments[1], arguments[2], arguments.Length > 3 ? arguments[3] : null,
                    arguments.Length > 4 ? arguments[4] : "gradcam++");
                return 0;
            }
            catch (Exception problem) when (problem is XaiException || problem is IOException || problem is UnauthorizedAccessException)
            {
                Console.Error.WriteLine("viewer: " + problem.Message);
                return 1;
            }
        }

        private static void Show(string modelPath, string imagePath, string overlayPath, string label, string method)
        {
            Png image = Png.Read(imagePath);
            using (Model model = Model.Load(modelPath))
            {
                Tensor input = model.ImageInput(image.Pixels, image.Width, image.Height, image.Channels);
                using (Explanation explanation = model.Explain(input, method, label))
                {
                    Console.WriteLine("{0}: score {1:F4}, {2} of layer {3}", explanation.Labels[0], explanation.Scores[0],
                        explanation.Method, explanation.Layer);
                    long[] shape = explanation.MapShape; // (1, height, width)
                    int peak = 0;
                    for (int i = 0; i < explanation.Map.Length; i++)
                        if (explanation.Map[i] > explanation.Map[peak])
                            peak = i;
                    if (explanation.Map[peak] > 0)
                        Console.WriteLine("strongest evidence at row {0} of {1}, column {2} of {3}", peak / shape[2], shape[1],
                            peak % shape[2], shape[2]);
                    else
                        Console.WriteLine("no evidence for it");
                    foreach (Warning warning in explanation.Warnings)
                        Console.WriteLine("warning: " + warning);
                    byte[] overlay = explanation.Overlay(image.Bytes, image.Width, image.Height, image.Channels);
                    Png.Write(overlayPath, overlay, image.Width, image.Height);
                    Console.WriteLine("wrote " + overlayPath);
                }
            }
        }
    }
}
