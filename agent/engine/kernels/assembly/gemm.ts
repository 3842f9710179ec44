// C[M,N] (+)= A[M,K] * B[K,N] with element strides for A and B, so a transpose costs nothing extra. Blocks of A and B
// are packed into panels of TILE_ROWS rows and TILE_COLUMNS columns, and a register tile runs over them; what an incomplete
// panel holds beyond its rows or columns is anything, and goes nowhere.
//
// Source: Goto & van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.

import { tile, TILE_COLUMNS, TILE_PITCH, TILE_ROWS } from "./tile";
import { ACCUMULATE, BIAS, loadLanes, Pointer, RELU, splat, storeLanes } from "./vector";

/** Blocks: one of A (BLOCK_M x BLOCK_K) stays in the second-level cache, a panel of B in the first. */
const BLOCK_K: i32 = 256;
const BLOCK_M: i32 = 96;
const BLOCK_N: i32 = 512;
/** Up to so many rows of A, a B whose columns lie side by side is read in place: a packed panel would be used too rarely. */
const DIRECT_ROWS: i32 = WIDE ? 64 : 0; // a narrow tile would take half of each cache line

/** Floats of scratch that gemm needs. */
export function gemmScratch(): i32 {
  return BLOCK_K * (BLOCK_N + BLOCK_M) + TILE_ROWS * TILE_COLUMNS;
}

/** Four rows (or columns) of 4 elements each, transposed to out, `pitch` bytes apart. */
// @ts-ignore: decorator
@inline function transpose4(r0: v128, r1: v128, r2: v128, r3: v128, out: Pointer, pitch: usize): void {
  const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), t1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  const t2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  v128.store(out, v128.shuffle<f64>(t0, t2, 0, 2));
  v128.store(out + pitch, v128.shuffle<f64>(t0, t2, 1, 3));
  v128.store(out + 2 * pitch, v128.shuffle<f64>(t1, t3, 0, 2));
  v128.store(out + 3 * pitch, v128.shuffle<f64>(t1, t3, 1, 3));
}

/** The byte offset of row (or column) `at` of `count`; the last one again where there are fewer. What comes of those nobody reads. */
// @ts-ignore: decorator
@inline function clamped(at: i32, count: i32, stride: usize): usize {
  return <usize>min(at, count - 1) * stride;
}

/** Strides in bytes, here and in packB. */
function packA(a: Pointer, rowStride: usize, columnStride: usize, rows: i32, depth: i32, out: Pointer): void {
  for (let i = 0; i < rows; i += TILE_ROWS) {
    let p = a + <usize>i * rowStride, k = 0;
    const height = min(TILE_ROWS, rows - i);
    if (height == TILE_ROWS && rowStride == 4) {
      for (; k < depth; k++, p += columnStride, out += 16) v128.store(out, v128.load(p));
      continue;
    }
    const o1 = clamped(1, height, rowStride), o2 = clamped(2, height, rowStride), o3 = clamped(3, height, rowStride);
    if (columnStride == 4) {
      for (; k + 4 <= depth; k += 4, p += 16, out += 64) {
        transpose4(v128.load(p), v128.load(p + o1), v128.load(p + o2), v128.load(p + o3), out, 16);
      }
    }
    for (; k < depth; k++, p += columnStride, out += 16) {
      store<f32>(out, load<f32>(p));
      store<f32>(out, load<f32>(p + o1), 4);
      store<f32>(out, load<f32>(p + o2), 8);
      store<f32>(out, load<f32>(p + o3), 12);
    }
  }
}

function packB(b: Pointer, rowStride: usize, columnStride: usize, depth: i32, columns: i32, out: Pointer): void {
  for (let j = 0; j < columns; j += TILE_COLUMNS) {
    let p = b + <usize>j * columnStride, k = 0;
    const width = min(TILE_COLUMNS, columns - j);
    if (columnStride == 4) {
      if (width == TILE_COLUMNS) {
        for (; k < depth; k++, p += rowStride, out += TILE_PITCH) {
          copyPair(out, p);
          if (WIDE) copyPair(out + 32, p + 32);
        }
      } else {
        for (; k < depth; k++, p += rowStride, out += TILE_PITCH) {
          for (let n = width, o: usize = 0; n > 0; n -= 4, o += 16) v128.store(out + o, loadLanes(p + o, n));
        }
      }
      continue;
    }
    if (rowStride == 4 && width == TILE_COLUMNS) {
      for (; k + 4 <= depth; k += 4, p += 16, out += 4 * TILE_PITCH) {
        transposeColumns(p, columnStride, out);
        transposeColumns(p + 4 * columnStride, columnStride, out + 16);
        if (WIDE) {
          transposeColumns(p + 8 * columnStride, columnStride, out + 32);
          transposeColumns(p + 12 * columnStride, columnStride, out + 48);
        }
      }
    } else if (rowStride == 4) {
      for (; k + 4 <= depth; k += 4, p += 16, out += 4 * TILE_PITCH) {
        for (let c = 0, o = out; c < width; c += 4, o += 16) {
          const r0 = v128.load(p + clamped(c, width, columnStride)), r1 = v128.load(p + clamped(c + 1, width, columnStride));
          const r2 = v128.load(p + clamped(c + 2, width, columnStride)), r3 = v128.load(p + clamped(c + 3, width, columnStride));
          transpose4(r0, r1, r2, r3, o, TILE_PITCH);
        }
      }
    }
    for (; k < depth; k++, p += rowStride, out += TILE_PITCH) {
      for (let c = 0; c < width; c++) store<f32>(out + (<usize>c << 2), load<f32>(p + <usize>c * columnStride));
    }
  }
}

// @ts-ignore: decorator
@inline function transposeColumns(from: Pointer, step: usize, out: Pointer): void {
  transpose4(v128.load(from), v128.load(from + step), v128.load(from + 2 * step), v128.load(from + 3 * step), out, TILE_PITCH);
}

// @ts-ignore: decorator
@inline function copyPair(to: Pointer, from: Pointer): void {
  const x0 = v128.load(from), x1 = v128.load(from, 16);
  v128.store(to, x0);
  v128.store(to, x1, 16);
}

/** Brings a whole tile from `edge` into the part of C that exists. */
function storeEdge(c: Pointer, ldc: usize, rows: i32, columns: i32, flags: i32, bias: Pointer, edge: Pointer): void {
  for (; rows > 0; rows--, c += ldc, edge += TILE_PITCH) {
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      let x = v128.load(edge + o);
      if (flags & ACCUMULATE) x = f32x4.add(x, loadLanes(c + o, n));
      if (flags & BIAS) x = f32x4.add(x, loadLanes(bias + o, n));
      if (flags & RELU) x = f32x4.pmax(x, splat(0));
      storeLanes(c + o, x, n);
    }
  }
}

/** Strides in elements. `bias` has N elements, read when flags has BIAS. `scratch`: gemmScratch() floats. */
export function gemm(
  M: i32, N: i32, K: i32,
  A: Pointer, rowStrideA: usize, columnStrideA: usize,
  B: Pointer, rowStrideB: usize, columnStrideB: usize,
  C: Pointer, ldc: usize,
  flags: i32, bias: Pointer, scratch: Pointer,
): void {
  const panelB = scratch, panelA = panelB + 4 * BLOCK_K * BLOCK_N, edge = panelA + 4 * BLOCK_M * BLOCK_K;
  rowStrideA <<= 2;
  columnStrideA <<= 2;
  rowStrideB <<= 2;
  columnStrideB <<= 2;
  ldc <<= 2;
  for (let jc = 0; jc < N; jc += BLOCK_N) {
    const nb = min(BLOCK_N, N - jc);
    for (let pc = 0; pc < K; pc += BLOCK_K) {
      const kb = min(BLOCK_K, K - pc);
      // Bias and ReLU only once the sum over K is complete.
      const f = (pc > 0 || flags & ACCUMULATE ? ACCUMULATE : 0) | (pc + kb == K ? flags & (RELU | BIAS) : 0);
      const from = B + <usize>pc * rowStrideB + <usize>jc * columnStrideB;
      const direct = M <= DIRECT_ROWS && columnStrideB == 4 ? nb - nb % TILE_COLUMNS : 0;
      if (direct < nb) packB(from + <usize>direct * columnStrideB, rowStrideB, columnStrideB, kb, nb - direct, panelB);
      for (let ic = 0; ic < M; ic += BLOCK_M) {
        const mb = min(BLOCK_M, M - ic);
        packA(A + <usize>ic * rowStrideA + <usize>pc * columnStrideA, rowStrideA, columnStrideA, mb, kb, panelA);
        for (let j = 0; j < nb; j += TILE_COLUMNS) {
          const columns = min(TILE_COLUMNS, nb - j);
          const bp = j < direct ? from + <usize>(4 * j) : panelB + <usize>(4 * (j - direct) * kb);
          const stepB = j < direct ? rowStrideB : TILE_PITCH;
          const bj = bias + (<usize>(jc + j) << 2);
          for (let i = 0; i < mb; i += TILE_ROWS) {
            const rows = min(TILE_ROWS, mb - i), ap = panelA + <usize>(4 * i * kb);
            const c = C + <usize>(ic + i) * ldc + (<usize>(jc + j) << 2);
            if (rows == TILE_ROWS && columns == TILE_COLUMNS) {
              tile(kb, ap, bp, stepB, c, ldc, f, bj);
            } else {
              tile(kb, ap, bp, stepB, edge, TILE_PITCH, 0, 0);
              storeEdge(c, ldc, rows, columns, f, bj, edge);
            }
          }
        }
      }
    }
  }
}

/** `batch` products; stepA, stepB, stepC: elements from one matrix to the next (0 uses the same one again). */
export function gemmBatch(
  batch: i32, stepA: usize, stepB: usize, stepC: usize,
  M: i32, N: i32, K: i32,
  A: Pointer, rowStrideA: usize, columnStrideA: usize,
  B: Pointer, rowStrideB: usize, columnStrideB: usize,
  C: Pointer, scratch: Pointer,
): void {
  for (; batch > 0; batch--, A += stepA << 2, B += stepB << 2, C += stepC << 2) {
    gemm(M, N, K, A, rowStrideA, columnStrideA, B, rowStrideB, columnStrideB, C, N, 0, 0, scratch);
  }
}
