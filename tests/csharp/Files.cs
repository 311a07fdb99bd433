using System;
using System.IO;
using System.Text;
using LibXai;

namespace Tests
{
    /// <summary>What tests/csharp/run prepared in the current folder: models, inputs, results of the program.</summary>
    internal static class Files
    {
        /// <summary>Convolution, ReLU, mean, three scores: (N, 1, 16, 16) -> (N, 3). See tests/cli/conftest.py.</summary>
        internal const string Small = "small.onnx";

        /// <summary>The chest model of the demo: (N, 1, 128, 128) -> (N, 5).</summary>
        internal static readonly string Chest =
            Path.Combine(Environment.GetEnvironmentVariable("XAI_SOURCE_ROOT"), "examples/phantom/models/chest.onnx");

        internal static readonly string Mammogram =
            Path.Combine(Environment.GetEnvironmentVariable("XAI_SOURCE_ROOT"), "examples/phantom/models/mammogram.onnx");

        /// <summary>An input of the small model, without symmetry.</summary>
        internal static float[] Ramp(int rows)
        {
            var values = new float[rows * 256];
            for (int i = 0; i < values.Length; i++)
                values[i] = (float)Math.Sin(0.37 * i + 0.003 * i * (i % 7)) + 0.2f * (i / 256);
            return values;
        }

        internal static Tensor RampTensor(int rows = 1)
        {
            return new Tensor(Ramp(rows), rows, 1, 16, 16);
        }

        /// <summary>A float32 array of NumPy, without its shape.</summary>
        internal static float[] Npy(string path)
        {
            byte[] bytes = File.ReadAllBytes(path);
            int header = BitConverter.ToUInt16(bytes, 8);
            string text = Encoding.ASCII.GetString(bytes, 10, header);
            Check.True(text.Contains("'<f4'") && text.Contains("False"), path + " holds " + text);
            var values = new float[(bytes.Length - 10 - header) / 4];
            Buffer.BlockCopy(bytes, 10 + header, values, 0, values.Length * 4);
            return values;
        }

        /// <summary>Resident memory of this process in bytes.</summary>
        internal static long Resident()
        {
            return long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1]) * 4096;
        }
    }
}
