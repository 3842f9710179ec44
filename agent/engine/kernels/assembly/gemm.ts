// C[M,N] (+)= A[M,K] * B[K,N] with element strides for A and B, so a transpose costs nothing extra. Blocks of A and B
// are packed into panels of TILE_ROWS rows and TILE_COLUMNS columns (zero filled), and a register tile runs over them.
//
// Source: Goto & van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.

import { tile, TILE_COLUMNS, TILE_PITCH, TILE_ROWS } from "./tile";
import { ACCUMULATE, BIAS, loadLanes, Pointer, RELU, splat, storeLanes } from "./vector";

/** Blocks: one of A (BLOCK_M x BLOCK_K) stays in the second-level cache, a panel of B in the first. */
const BLOCK_K: i32 = 256;
const BLOCK_M: i32 = 96;
const BLOCK_N: i32 = 512;

/** Floats of scratch that gemm needs. */
export function gemmScratch(): i32 {
  return BLOCK_K * (BLOCK_N + BLOCK_M) + TILE_ROWS * TILE_COLUMNS;
}

/** Four rows (or columns) `step` bytes apart, 4 elements each, transposed to out, `pitch` bytes apart. */
// @ts-ignore: decorator
@inline function transpose4(from: Pointer, step: usize, out: Pointer, pitch: usize): void {
  const r0 = v128.load(from), r1 = v128.load(from + step);
  const r2 = v128.load(from + 2 * step), r3 = v128.load(from + 3 * step);
  const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), t1 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  const t2 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5), t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  v128.store(out, v128.shuffle<f64>(t0, t2, 0, 2));
  v128.store(out + pitch, v128.shuffle<f64>(t0, t2, 1, 3));
  v128.store(out + 2 * pitch, v128.shuffle<f64>(t1, t3, 0, 2));
  v128.store(out + 3 * pitch, v128.shuffle<f64>(t1, t3, 1, 3));
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
    if (height == TILE_ROWS && columnStride == 4) {
      for (; k + 4 <= depth; k += 4, p += 16, out += 64) transpose4(p, rowStride, out, 16);
    }
    for (; k < depth; k++, p += columnStride, out += 16) {
      for (let r = 0; r < TILE_ROWS; r++) {
        store<f32>(out + (<usize>r << 2), r < height ? load<f32>(p + <usize>r * rowStride) : 0);
      }
    }
  }
}

function packB(b: Pointer, rowStride: usize, columnStride: usize, depth: i32, columns: i32, out: Pointer): void {
  for (let j = 0; j < columns; j += TILE_COLUMNS) {
    let p = b + <usize>j * columnStride, k = 0;
    const width = min(TILE_COLUMNS, columns - j);
    if (width == TILE_COLUMNS && columnStride == 4) {
      for (; k < depth; k++, p += rowStride, out += TILE_PITCH) {
        v128.store(out, v128.load(p));
        v128.store(out, v128.load(p, 16), 16);
        if (WIDE) {
          v128.store(out, v128.load(p, 32), 32);
          v128.store(out, v128.load(p, 48), 48);
        }
      }
      continue;
    }
    if (width == TILE_COLUMNS && rowStride == 4) {
      for (; k + 4 <= depth; k += 4, p += 16, out += 4 * TILE_PITCH) {
        transpose4(p, columnStride, out, TILE_PITCH);
        transpose4(p + 4 * columnStride, columnStride, out + 16, TILE_PITCH);
        if (WIDE) {
          transpose4(p + 8 * columnStride, columnStride, out + 32, TILE_PITCH);
          transpose4(p + 12 * columnStride, columnStride, out + 48, TILE_PITCH);
        }
      }
    }
    for (; k < depth; k++, p += rowStride, out += TILE_PITCH) {
      for (let c = 0; c < TILE_COLUMNS; c++) {
        store<f32>(out + (<usize>c << 2), c < width ? load<f32>(p + <usize>c * columnStride) : 0);
      }
    }
  }
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
      packB(B + <usize>pc * rowStrideB + <usize>jc * columnStrideB, rowStrideB, columnStrideB, kb, nb, panelB);
      for (let ic = 0; ic < M; ic += BLOCK_M) {
        const mb = min(BLOCK_M, M - ic);
        packA(A + <usize>ic * rowStrideA + <usize>pc * columnStrideA, rowStrideA, columnStrideA, mb, kb, panelA);
        for (let j = 0; j < nb; j += TILE_COLUMNS) {
          const columns = min(TILE_COLUMNS, nb - j), bp = panelB + <usize>(4 * j * kb);
          const bj = bias + (<usize>(jc + j) << 2);
          for (let i = 0; i < mb; i += TILE_ROWS) {
            const rows = min(TILE_ROWS, mb - i), ap = panelA + <usize>(4 * i * kb);
            const c = C + <usize>(ic + i) * ldc + (<usize>(jc + j) << 2);
            if (rows == TILE_ROWS && columns == TILE_COLUMNS) {
              tile(kb, ap, bp, c, ldc, f, bj);
            } else {
              tile(kb, ap, bp, edge, TILE_PITCH, 0, 0);
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
