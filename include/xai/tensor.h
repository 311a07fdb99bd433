/**
 * @file
 * Tensors: element type, shape and bytes, row-major and contiguous (the last axis is adjacent in
 * memory).
 *
 * A tensor may be read by several threads at once. Nobody may write to its elements during a call
 * that reads it.
 */
#ifndef XAI_TENSOR_H
#define XAI_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Element types, numbered as TensorProto.DataType of ONNX. @since 0.1 */
#define XAI_DTYPE_FLOAT32 ((int32_t)1)
#define XAI_DTYPE_UINT8 ((int32_t)2)
#define XAI_DTYPE_INT8 ((int32_t)3)
#define XAI_DTYPE_UINT16 ((int32_t)4)
#define XAI_DTYPE_INT16 ((int32_t)5)
#define XAI_DTYPE_INT32 ((int32_t)6)
#define XAI_DTYPE_INT64 ((int32_t)7)
/** One byte an element, 0 or 1. @since 0.1 */
#define XAI_DTYPE_BOOL ((int32_t)9)
#define XAI_DTYPE_FLOAT16 ((int32_t)10)
#define XAI_DTYPE_FLOAT64 ((int32_t)11)
#define XAI_DTYPE_UINT32 ((int32_t)12)
#define XAI_DTYPE_UINT64 ((int32_t)13)
#define XAI_DTYPE_BFLOAT16 ((int32_t)16)

/** The largest rank of a tensor. @since 0.1 */
#define XAI_MAX_RANK 8

/** An array of numbers with a type and a shape. @since 0.1 */
typedef struct xai_tensor xai_tensor;

/** @return bytes an element of `dtype`; 0 for an unknown type. @since 0.1 */
XAI_API size_t xai_dtype_size(int32_t dtype);

/** @return "float32", "int64", ... or "unknown"; static storage. @since 0.1 */
XAI_API const char *xai_dtype_name(int32_t dtype);

/**
 * Make a tensor that owns its elements.
 *
 * @param dtype  an XAI_DTYPE_* constant
 * @param rank   0 (a scalar, one element) to XAI_MAX_RANK
 * @param dims   `rank` sizes, each 0 or more; may be NULL when `rank` is 0
 * @param data   elements to copy, row-major, of any alignment; NULL = all zero
 * @param out    set on success only; free with xai_tensor_free()
 * @param error  optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT for an unknown type, rank or a negative size; XAI_ERROR_SHAPE
 *         when the number of bytes overflows; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_tensor_create(int32_t dtype, int32_t rank, const int64_t *dims,
                                     const void *data, xai_tensor **out, xai_error **error);

/**
 * Make a tensor over elements that belong to the caller: nothing is copied and nothing is written.
 *
 * @param data   row-major, of any alignment; must stay valid until the tensor is freed; may be NULL
 *               only for a tensor without elements
 * @param out    set on success only; free with xai_tensor_free(), which leaves `data` alone
 * @return as xai_tensor_create(), and XAI_ERROR_ARGUMENT when `data` is missing
 * @since 0.1
 */
XAI_API xai_status xai_tensor_wrap(int32_t dtype, int32_t rank, const int64_t *dims,
                                   const void *data, xai_tensor **out, xai_error **error);

/** @return the XAI_DTYPE_* constant of the elements. @since 0.1 */
XAI_API int32_t xai_tensor_dtype(const xai_tensor *tensor);

/** @return the number of axes. @since 0.1 */
XAI_API int32_t xai_tensor_rank(const xai_tensor *tensor);

/** @return xai_tensor_rank() sizes; owned by the tensor. @since 0.1 */
XAI_API const int64_t *xai_tensor_dims(const xai_tensor *tensor);

/** @return the number of elements: the product of the sizes, 1 for a scalar. @since 0.1 */
XAI_API size_t xai_tensor_count(const xai_tensor *tensor);

/** @return the number of bytes of all elements. @since 0.1 */
XAI_API size_t xai_tensor_bytes(const xai_tensor *tensor);

/**
 * @return the elements, row-major; owned by the tensor, or by the caller of xai_tensor_wrap().
 * @since 0.1
 */
XAI_API const void *xai_tensor_data(const xai_tensor *tensor);

/**
 * The elements of a tensor made by xai_tensor_create(), for writing; 64-byte aligned.
 * @return NULL when the tensor is NULL or borrows its elements
 * @since 0.1
 */
XAI_API void *xai_tensor_mutable_data(xai_tensor *tensor);

/** Free a tensor; NULL is fine. @since 0.1 */
XAI_API void xai_tensor_free(xai_tensor *tensor);

#ifdef __cplusplus
}
#endif

#endif
