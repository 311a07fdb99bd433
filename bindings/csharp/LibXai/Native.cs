// Made by tools/csharp-imports from include/xai; not to be edited.
using System;
using System.Runtime.InteropServices;

namespace LibXai
{
    /// <summary>The constants of the headers.</summary>
    internal static class Constants
    {
        internal const int XAI_DTYPE_BFLOAT16 = 16;
        internal const int XAI_DTYPE_BOOL = 9;
        internal const int XAI_DTYPE_FLOAT16 = 10;
        internal const int XAI_DTYPE_FLOAT32 = 1;
        internal const int XAI_DTYPE_FLOAT64 = 11;
        internal const int XAI_DTYPE_INT16 = 5;
        internal const int XAI_DTYPE_INT32 = 6;
        internal const int XAI_DTYPE_INT64 = 7;
        internal const int XAI_DTYPE_INT8 = 3;
        internal const int XAI_DTYPE_UINT16 = 4;
        internal const int XAI_DTYPE_UINT32 = 12;
        internal const int XAI_DTYPE_UINT64 = 13;
        internal const int XAI_DTYPE_UINT8 = 2;
        internal const int XAI_ERROR_ARGUMENT = 1;
        internal const int XAI_ERROR_CANCELLED = 8;
        internal const int XAI_ERROR_FILE = 3;
        internal const int XAI_ERROR_FORMAT = 4;
        internal const int XAI_ERROR_INTERNAL = 10;
        internal const int XAI_ERROR_MEMORY = 2;
        internal const int XAI_ERROR_NOT_FOUND = 7;
        internal const int XAI_ERROR_NUMERIC = 9;
        internal const int XAI_ERROR_SHAPE = 6;
        internal const int XAI_ERROR_UNSUPPORTED = 5;
        internal const int XAI_MAX_RANK = 8;
        internal const int XAI_MODE_LATENCY = 0;
        internal const int XAI_MODE_THROUGHPUT = 1;
        internal const int XAI_OK = 0;
        internal const int XAI_OPTION_NUMBER = 1;
        internal const int XAI_OPTION_TENSOR = 4;
        internal const int XAI_OPTION_TEXT = 2;
        internal const int XAI_PRECISION_FAST = 2;
        internal const int XAI_PRECISION_REFERENCE = 1;
        internal const int XAI_PRECISION_STANDARD = 0;
        internal const int XAI_SCALING_MAX = 0;
        internal const int XAI_SCALING_MIN_MAX = 1;
        internal const int XAI_SCORE_LOGIT = 1;
        internal const int XAI_SCORE_PROBABILITY = 2;
        internal const int XAI_SCORE_RAW = 0;
        internal const int XAI_VERSION_MAJOR = 0;
        internal const int XAI_VERSION_MINOR = 1;
        internal const int XAI_VERSION_PATCH = 0;
    }

    /// <summary>Owns or borrows an xai_display.</summary>
    internal sealed class DisplayHandle : NativeHandle
    {
        internal static readonly DisplayHandle Null =
            new DisplayHandle(IntPtr.Zero, false);

        internal DisplayHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_display_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_error.</summary>
    internal sealed class ErrorHandle : NativeHandle
    {
        internal static readonly ErrorHandle Null =
            new ErrorHandle(IntPtr.Zero, false);

        internal ErrorHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_error_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_explainer.</summary>
    internal sealed class ExplainerHandle : NativeHandle
    {
        internal static readonly ExplainerHandle Null =
            new ExplainerHandle(IntPtr.Zero, false);

        internal ExplainerHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_explainer_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_explainer_options.</summary>
    internal sealed class ExplainerOptionsHandle : NativeHandle
    {
        internal static readonly ExplainerOptionsHandle Null =
            new ExplainerOptionsHandle(IntPtr.Zero, false);

        internal ExplainerOptionsHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_explainer_options_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_explanation.</summary>
    internal sealed class ExplanationHandle : NativeHandle
    {
        internal static readonly ExplanationHandle Null =
            new ExplanationHandle(IntPtr.Zero, false);

        internal ExplanationHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_explanation_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_model.</summary>
    internal sealed class ModelHandle : NativeHandle
    {
        internal static readonly ModelHandle Null =
            new ModelHandle(IntPtr.Zero, false);

        internal ModelHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_model_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_plan.</summary>
    internal sealed class PlanHandle : NativeHandle
    {
        internal static readonly PlanHandle Null =
            new PlanHandle(IntPtr.Zero, false);

        internal PlanHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_plan_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_session.</summary>
    internal sealed class SessionHandle : NativeHandle
    {
        internal static readonly SessionHandle Null =
            new SessionHandle(IntPtr.Zero, false);

        internal SessionHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_session_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_session_options.</summary>
    internal sealed class SessionOptionsHandle : NativeHandle
    {
        internal static readonly SessionOptionsHandle Null =
            new SessionOptionsHandle(IntPtr.Zero, false);

        internal SessionOptionsHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_session_options_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_target.</summary>
    internal sealed class TargetHandle : NativeHandle
    {
        internal static readonly TargetHandle Null =
            new TargetHandle(IntPtr.Zero, false);

        internal TargetHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_target_free(handle);
            return true;
        }
    }

    /// <summary>Owns or borrows an xai_tensor.</summary>
    internal sealed class TensorHandle : NativeHandle
    {
        internal static readonly TensorHandle Null =
            new TensorHandle(IntPtr.Zero, false);

        internal TensorHandle(IntPtr pointer, bool owned) : base(pointer, owned) { }

        protected override bool ReleaseHandle()
        {
            Native.xai_tensor_free(handle);
            return true;
        }
    }

    /// <summary>xai_progress.</summary>
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    internal delegate int NativeProgress(IntPtr user, UIntPtr done, UIntPtr total);

    /// <summary>The functions of the library.</summary>
    internal static class Native
    {
        private const string Library = "xai";

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_abi_version();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_display_create([In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_display_free(IntPtr display);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_display_set_alpha(DisplayHandle display, double alpha,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_display_set_colours(DisplayHandle display, byte[] colours,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_display_set_contour(DisplayHandle display,
            double threshold, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_display_set_percentile(DisplayHandle display,
            double percentile, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_display_set_smoothing(DisplayHandle display, double sigma,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_dtype_name(int dtype);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_dtype_size(int dtype);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_error_free(IntPtr error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_error_message(ErrorHandle error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_error_place(ErrorHandle error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_error_status(ErrorHandle error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_create(ModelHandle model, byte[] method,
            ExplainerOptionsHandle options, [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_explain(ExplainerHandle explainer,
            TensorHandle input, TargetHandle target, [In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_explain_targets(ExplainerHandle explainer,
            IntPtr[] inputs, UIntPtr input_count, IntPtr[] targets, UIntPtr target_count,
            [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_explainer_free(IntPtr explainer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_create([In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_explainer_options_free(IntPtr options);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_layer(ExplainerOptionsHandle options,
            byte[] layer, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_number(
            ExplainerOptionsHandle options, byte[] name, double value, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_scaling(
            ExplainerOptionsHandle options, int scaling, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_score(ExplainerOptionsHandle options,
            int score, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_session(
            ExplainerOptionsHandle options, SessionOptionsHandle session, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_tensor(
            ExplainerOptionsHandle options, byte[] name, UIntPtr input, TensorHandle value,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explainer_options_set_text(ExplainerOptionsHandle options,
            byte[] name, byte[] value, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern double xai_explanation_base_value(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_baseline(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern double xai_explanation_completeness_error(
            ExplanationHandle explanation, UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explanation_converged(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explanation_draw(ExplanationHandle explanation,
            UIntPtr row, byte[] image, UIntPtr width, UIntPtr height, int channels,
            DisplayHandle display, [In, Out] byte[] @out, [In, Out] double[] strongest,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_explanation_evaluations(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_explanation_free(IntPtr explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_interactions(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_json(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_label(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_layer(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_map(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_method(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explanation_overlay(ExplanationHandle explanation,
            UIntPtr row, byte[] image, UIntPtr width, UIntPtr height, int channels, double alpha,
            byte[] colours, [In, Out] byte[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_explanation_part_count(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_part_name(ExplanationHandle explanation,
            UIntPtr part);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_part_standard_error(
            ExplanationHandle explanation, UIntPtr part);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_part_values(ExplanationHandle explanation,
            UIntPtr part);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_explanation_row_count(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_explanation_samples(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern double xai_explanation_score(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_explanation_score_kind(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_segment_standard_error(
            ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_segment_values(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_segments(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_signed_map(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_standard_error(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_explanation_target(ExplanationHandle explanation,
            UIntPtr row);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_values(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_explanation_warning(ExplanationHandle explanation,
            UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_explanation_warning_count(ExplanationHandle explanation);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_explanation_warning_row(ExplanationHandle explanation,
            UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_math_library([In, Out] byte[] @out, UIntPtr size);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_method_count();

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_method_description(UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_method_name(UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_method_option_count(byte[] method);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_method_option_default(byte[] method, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_method_option_description(byte[] method, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_method_option_kinds(byte[] method, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_method_option_name(byte[] method, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_model_default_layer(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_model_find_input(ModelHandle model, byte[] name);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_model_find_output(ModelHandle model, byte[] name);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_model_free(IntPtr model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_image_input(ModelHandle model, UIntPtr index,
            IntPtr pixels, int dtype, UIntPtr width, UIntPtr height, int channels, double black,
            double white, [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_model_input_channels(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_input_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_input_dim_name(ModelHandle model, UIntPtr index,
            int axis);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_input_dims(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_input_dtype(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_input_mean(ModelHandle model, IntPtr[] values);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_input_name(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_input_range(ModelHandle model,
            [In, Out] double[] low, [In, Out] double[] high);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_input_rank(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_input_size(ModelHandle model,
            [In, Out] long[] height, [In, Out] long[] width);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_input_std(ModelHandle model, IntPtr[] values);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_model_ir_version(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_label(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_label_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_layer_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_layer_name(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_layer_node(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_layer_operator(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_metadata_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_metadata_key(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_metadata_value(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_open(byte[] path, [In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern long xai_model_opset(ModelHandle model, byte[] domain);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_model_output_count(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_output_dim_name(ModelHandle model, UIntPtr index,
            int axis);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_output_dims(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_output_dtype(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_output_name(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_output_rank(ModelHandle model, UIntPtr index);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_model_parse(IntPtr bytes, UIntPtr size,
            [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_producer_name(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_producer_version(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_retain(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_model_score_meaning(ModelHandle model);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_arena_bytes(PlanHandle plan);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_buffer_bytes(PlanHandle plan, UIntPtr buffer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_buffer_count(PlanHandle plan);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_buffer_first_step(PlanHandle plan, UIntPtr buffer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_plan_buffer_gradient(PlanHandle plan, UIntPtr buffer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_buffer_last_step(PlanHandle plan, UIntPtr buffer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_buffer_offset(PlanHandle plan, UIntPtr buffer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_plan_buffer_value(PlanHandle plan, UIntPtr buffer);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_plan_free(IntPtr plan);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_scratchpad_bytes(PlanHandle plan);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_plan_step_backward(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_step_bytes(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_step_count(PlanHandle plan);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_plan_step_implementation(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern double xai_plan_step_milliseconds(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_plan_step_node(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern double xai_plan_step_operations(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_plan_step_operator(PlanHandle plan, UIntPtr step);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_plan_weights_bytes(PlanHandle plan);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_session_arena_bytes(SessionHandle session);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_create(ModelHandle model,
            SessionOptionsHandle options, [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_session_free(IntPtr session);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_gradients(SessionHandle session, IntPtr[] inputs,
            UIntPtr input_count, IntPtr[] targets, UIntPtr target_count, int score, IntPtr[] wrt,
            UIntPtr wrt_count, [In, Out] IntPtr[] gradients, [In, Out] IntPtr[] scores,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_create([In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_session_options_free(IntPtr options);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_set_allow_nonfinite(
            SessionOptionsHandle options, int allow, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_set_memory_limit(
            SessionOptionsHandle options, UIntPtr bytes, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_set_mode(SessionOptionsHandle options,
            int mode, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_set_precision(SessionOptionsHandle options,
            int precision, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_set_progress(SessionOptionsHandle options,
            NativeProgress progress, IntPtr user, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_options_set_threads(SessionOptionsHandle options,
            int threads, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_plan(SessionHandle session, IntPtr[] inputs,
            UIntPtr input_count, IntPtr[] wrt, UIntPtr wrt_count, [In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_profile(SessionHandle session, IntPtr[] inputs,
            UIntPtr input_count, IntPtr[] wrt, UIntPtr wrt_count, int runs,
            [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_scores(SessionHandle session, IntPtr[] inputs,
            UIntPtr input_count, [In, Out] IntPtr[] outputs, UIntPtr output_count,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_session_values(SessionHandle session, IntPtr[] inputs,
            UIntPtr input_count, IntPtr[] names, UIntPtr count, [In, Out] IntPtr[] values,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_status_name(int status);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_add_element(TargetHandle target, long[] indices,
            UIntPtr rank, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_add_highest(TargetHandle target,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_add_index(TargetHandle target, long index,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_add_label(TargetHandle target, byte[] label,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_add_region(TargetHandle target, long[] begin,
            long[] end, UIntPtr rank, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_target_count(TargetHandle target);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_create([In, Out] IntPtr[] @out,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_target_free(IntPtr target);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_target_set_output(TargetHandle target, byte[] name,
            [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_tensor_bytes(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern UIntPtr xai_tensor_count(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_tensor_create(int dtype, int rank, long[] dims,
            IntPtr data, [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_tensor_data(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_tensor_dims(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_tensor_dtype(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern void xai_tensor_free(IntPtr tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_tensor_mutable_data(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_tensor_rank(TensorHandle tensor);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern int xai_tensor_wrap(int dtype, int rank, long[] dims, IntPtr data,
            [In, Out] IntPtr[] @out, [In, Out] IntPtr[] error);

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]
        internal static extern IntPtr xai_version();
    }
}
