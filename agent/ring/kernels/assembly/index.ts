// Entry of the ring's kernels: what happens to a segment between the socket and the vector.
//
// The module imports the ring's memory (agent/ring/memory.ts) and owns none of it: every pointer comes from the caller,
// who also answers for the sizes. Counts are in elements. Nothing needs to be aligned.
//
// Plain SIMD128 only, no relaxed operation: ranks on unlike machines must end with the same bits.
//
// encode...(out, x, addend, residual, keep, count): v = x + residual + addend, v to the wire at `out`.
//   addend    a payload of the same wire and count, or 0
//   residual  f32: what earlier rounding lost, replaced by what this one loses; or 0
//   keep      1: x becomes what a receiver of `out` will decode
// decode...(x, payload, count): x = payload.
// copy(out, from, bytes): they may overlap.
// allFinite(x, count): whether a vector may be summed.

export { decodeBf16, encodeBf16 } from "./bf16";
export { copy } from "./copy";
export { encodeF32 } from "./f32";
export { allFinite } from "./finite";
export { decodeInt8, encodeInt8 } from "./int8";
