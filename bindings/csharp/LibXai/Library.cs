using System;
using System.Collections.Generic;
using System.Text;

namespace LibXai
{
    /// <summary>A method: a name for <see cref="Explainer"/> and what it computes.</summary>
    public sealed class MethodDescription
    {
        internal MethodDescription(string name, string description)
        {
            Name = name;
            Description = description;
        }

        /// <summary>Such as "gradcam".</summary>
        public string Name { get; }

        /// <summary>One line on what it computes and where it comes from.</summary>
        public string Description { get; }

        /// <summary>The name.</summary>
        /// <returns><see cref="Name"/>.</returns>
        public override string ToString()
        {
            return Name;
        }
    }

    /// <summary>The shared library behind this assembly.</summary>
    public static class Library
    {
        /// <summary>Its version, such as "0.1.0".</summary>
        public static string Version
        {
            get { return Utf8.Decode(Native.xai_version()); }
        }

        /// <summary>The number of its binary interface.</summary>
        public static int AbiVersion
        {
            get { return Native.xai_abi_version(); }
        }

        /// <summary>What computes convolutions and matrix products, such as "oneDNN 3.2.0"; "none" for own kernels only.</summary>
        public static string MathLibrary
        {
            get
            {
                byte[] text = new byte[128];
                int length = (int)Native.xai_math_library(text, (UIntPtr)(uint)text.Length);
                return Encoding.UTF8.GetString(text, 0, Math.Min(length, text.Length - 1));
            }
        }

        /// <summary>All methods.</summary>
        public static IReadOnlyList<MethodDescription> Methods
        {
            get
            {
                var methods = new MethodDescription[(int)Native.xai_method_count()];
                for (int i = 0; i < methods.Length; i++)
                    methods[i] = new MethodDescription(Utf8.Decode(Native.xai_method_name((UIntPtr)(uint)i)),
                        Utf8.Decode(Native.xai_method_description((UIntPtr)(uint)i)));
                return methods;
            }
        }
    }
}
