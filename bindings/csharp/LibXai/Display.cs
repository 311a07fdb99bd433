using System;

namespace LibXai
{
    /// <summary>How the map of an explanation is drawn. Nothing here changes a number of it: tell the reader what was chosen.</summary>
    public sealed class Display
    {
        /// <summary>Make one that draws the map as it is.</summary>
        public Display()
        {
            Alpha = 0.5;
            Percentile = 100;
        }

        /// <summary>Strength of the colours, 0 to 1.</summary>
        public double Alpha { get; set; }

        /// <summary>"viridis", "inferno" or "turbo"; null = "turbo".</summary>
        public string Colours { get; set; }

        /// <summary>
        /// The colours are strongest from this percentile of the map's values above 0 on; above 0, at most 100 (the largest
        /// value). Maps of pixels (integrated_gradients, deeplift, ...) are seen with 99 and a <see cref="Smoothing"/> of 2.
        /// </summary>
        public double Percentile { get; set; }

        /// <summary>Standard deviation, in pixels of the map, of a Gaussian that smooths what is drawn; 0 = none.</summary>
        public double Smoothing { get; set; }

        /// <summary>A line is drawn around what is at least this share of the strongest; 0 = none.</summary>
        public double Contour { get; set; }

        internal DisplayHandle Make()
        {
            var made = new IntPtr[1];
            var error = new IntPtr[1];
            XaiException.Check(Native.xai_display_create(made, error), error);
            var handle = new DisplayHandle(made[0], true);
            try
            {
                XaiException.Check(Native.xai_display_set_alpha(handle, Alpha, error), error);
                XaiException.Check(Native.xai_display_set_colours(handle, Utf8.Encode(Colours, nameof(Colours)), error), error);
                XaiException.Check(Native.xai_display_set_percentile(handle, Percentile, error), error);
                XaiException.Check(Native.xai_display_set_smoothing(handle, Smoothing, error), error);
                XaiException.Check(Native.xai_display_set_contour(handle, Contour, error), error);
            }
            catch
            {
                handle.Dispose();
                throw;
            }
            return handle;
        }
    }
}
