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
            byte[] method = Utf8.Encode(name, nameof(name));
            var options = new OptionDescription[(int)Native.xai_method_option_count(method)];
            for (int i = 0; i < options.Length; i++)
                options[i] = new OptionDescription(method, (UIntPtr)(uint)i);
            Options = options;
        }

        /// <summary>Such as "gradcam".</summary>
        public string Name { get; }

        /// <summary>One line on what it computes and where it comes from.</summary>
        public string Description { get; }

        /// <summary>What <see cref="ExplainerOptions.this[string]"/> takes for it.</summary>
        public IReadOnlyList<OptionDescription> Options { get; }

        /// <summary>The name.</summary>
        /// <returns><see cref="Name"/>.</returns>
        public override string ToString()
        {
            return Name;
        }
    }

    /// <summary>An option of a method.</summary>
    public sealed class OptionDescription
    {
        internal OptionDescription(byte[] method, UIntPtr index)
        {
            Name = Utf8.Decode(Native.xai_method_option_name(method, index));
            Default = Utf8.Decode(Native.xai_method_option_default(method, index));
            Description = Utf8.Decode(Native.xai_method_option_description(method, index));
            int kinds = Native.xai_method_option_kinds(method, index);
            TakesNumber = (kinds & Constants.XAI_OPTION_NUMBER) != 0;
            TakesText = (kinds & Constants.XAI_OPTION_TEXT) != 0;
            TakesTensor = (kinds & Constants.XAI_OPTION_TENSOR) != 0;
        }

        /// <summary>Such as "samples".</summary>
        public string Name { get; }

        /// <summary>Its default as text.</summary>
        public string Default { get; }

        /// <summary>One line on what it does.</summary>
        public string Description { get; }

        /// <summary>Whether its value may be a number.</summary>
        public bool TakesNumber { get; }

        /// <summary>Whether its value may be text.</summary>
        public bool TakesText { get; }

        /// <summary>Whether its value may be a tensor.</summary>
        public bool TakesTensor { get; }

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
