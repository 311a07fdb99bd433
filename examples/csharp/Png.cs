using System;
using System.IO;
using System.IO.Compression;

namespace Viewer
{
    /// <summary>
    /// Just enough PNG for the example: grey or RGB, 8 or 16 bits, not interlaced. A viewer has its pixels already, from DICOM or
    /// an imaging library.
    /// </summary>
    internal sealed class Png
    {
        private static readonly byte[] Signature = { 0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A };

        /// <summary>byte[] for 8 bits, ushort[] for 16: height x width x channels.</summary>
        internal Array Pixels { get; private set; }

        internal int Width { get; private set; }

        internal int Height { get; private set; }

        /// <summary>1 (grey) or 3 (RGB).</summary>
        internal int Channels { get; private set; }

        /// <summary>The pixels in 8 bits, to draw on.</summary>
        internal byte[] Bytes
        {
            get
            {
                ushort[] words = Pixels.GetType() == typeof(ushort[]) ? (ushort[])Pixels : null;
                return words == null ? (byte[])Pixels : Array.ConvertAll(words, word => (byte)((word + 128) / 257));
            }
        }

        internal static Png Read(string path)
        {
            var png = new Png();
            var packed = new MemoryStream();
            int depth = 0;
            using (var file = new BinaryReader(File.OpenRead(path)))
            {
                foreach (byte each in Signature)
                    if (file.ReadByte() != each)
                        throw new InvalidDataException(path + " is not a PNG file");
                for (string kind = ""; kind != "IEND";)
                {
                    int length = Number(file.ReadBytes(4), 0);
                    kind = new string(file.ReadChars(4));
                    byte[] data = file.ReadBytes(length);
                    file.ReadBytes(4); // checksum
                    if (data.Length != length)
                        throw new InvalidDataException(path + " is cut off");
                    if (kind == "IDAT")
                        packed.Write(data, 0, length);
                    if (kind != "IHDR")
                        continue;
                    png.Width = Number(data, 0);
                    png.Height = Number(data, 4);
                    depth = data[8];
                    png.Channels = data[9] == 0 ? 1 : data[9] == 2 ? 3 : 0;
                    if ((depth != 8 && depth != 16) || png.Channels == 0 || data[12] != 0)
                        throw new InvalidDataException(path + ": only grey or RGB of 8 or 16 bits, not interlaced");
                }
            }
            packed.Position = 2; // behind the header of zlib
            byte[] bytes = png.Unfilter(new DeflateStream(packed, CompressionMode.Decompress), depth / 8);
            png.Pixels = depth == 8 ? bytes : (Array)Words(bytes);
            return png;
        }

        /// <summary>Write height x width x 3 bytes.</summary>
        internal static void Write(string path, byte[] rgb, int width, int height)
        {
            var packed = new MemoryStream();
            packed.Write(new byte[] { 0x78, 0x9C }, 0, 2);
            uint a = 1, b = 0; // Adler-32 of the raw bytes
            using (var deflate = new DeflateStream(packed, CompressionMode.Compress, true))
                for (int y = 0; y < height; y++)
                {
                    byte[] line = new byte[1 + 3 * width]; // filter 0, then the row
                    Array.Copy(rgb, y * 3 * width, line, 1, 3 * width);
                    deflate.Write(line, 0, line.Length);
                    foreach (byte each in line)
                    {
                        a = (a + each) % 65521;
                        b = (b + a) % 65521;
                    }
                }
            packed.Write(Bytes4((b << 16) | a), 0, 4);
            byte[] header = new byte[13];
            Bytes4((uint)width).CopyTo(header, 0);
            Bytes4((uint)height).CopyTo(header, 4);
            header[8] = 8;
            header[9] = 2;
            using (FileStream file = File.Create(path))
            {
                file.Write(Signature, 0, Signature.Length);
                Chunk(file, "IHDR", header);
                Chunk(file, "IDAT", packed.ToArray());
                Chunk(file, "IEND", new byte[0]);
            }
        }

        private static int Number(byte[] from, int at)
        {
            return (from[at] << 24) | (from[at + 1] << 16) | (from[at + 2] << 8) | from[at + 3];
        }

        private static byte[] Bytes4(uint number)
        {
            return new[] { (byte)(number >> 24), (byte)(number >> 16), (byte)(number >> 8), (byte)number };
        }

        private static ushort[] Words(byte[] bytes)
        {
            var words = new ushort[bytes.Length / 2];
            for (int i = 0; i < words.Length; i++)
                words[i] = (ushort)((bytes[2 * i] << 8) | bytes[2 * i + 1]);
            return words;
        }

        private static void Chunk(Stream file, string kind, byte[] data)
        {
            byte[] body = new byte[4 + data.Length];
            for (int i = 0; i < 4; i++)
                body[i] = (byte)kind[i];
            data.CopyTo(body, 4);
            file.Write(Bytes4((uint)data.Length), 0, 4);
            file.Write(body, 0, body.Length);
            uint crc = 0xFFFFFFFF;
            foreach (byte each in body)
            {
                crc ^= each;
                for (int bit = 0; bit < 8; bit++)
                    crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
            }
            file.Write(Bytes4(~crc), 0, 4);
        }

        /// <summary>Every row names the filter that predicts its bytes from those to the left and above.</summary>
        private byte[] Unfilter(Stream from, int bytesEach)
        {
            int step = Channels * bytesEach, stride = Width * step;
            byte[] pixels = new byte[Height * stride];
            byte[] line = new byte[1 + stride];
            for (int y = 0; y < Height; y++)
            {
                for (int done = 0, read; done < line.Length; done += read)
                    if ((read = from.Read(line, done, line.Length - done)) == 0)
                        throw new InvalidDataException("the picture is cut off");
                for (int x = 0; x < stride; x++)
                {
                    int at = y * stride + x;
                    int left = x >= step ? pixels[at - step] : 0, above = y > 0 ? pixels[at - stride] : 0;
                    int corner = x >= step && y > 0 ? pixels[at - stride - step] : 0;
                    pixels[at] = (byte)(line[1 + x] + Predict(line[0], left, above, corner));
                }
            }
            return pixels;
        }

        private static int Predict(int filter, int left, int above, int corner)
        {
            switch (filter)
            {
            case 0: return 0;
            case 1: return left;
            case 2: return above;
            case 3: return (left + above) / 2;
            case 4:
                int guess = left + above - corner;
                int a = Math.Abs(guess - left), b = Math.Abs(guess - above), c = Math.Abs(guess - corner);
                return a <= b && a <= c ? left : b <= c ? above : corner;
            default: throw new InvalidDataException("unknown filter " + filter);
            }
        }
    }
}
