/** Whether all of x[0 .. count) are numbers and finite: those that are not have every bit of their exponent set. */
export function allFinite(x: usize, count: i32): bool {
  const exponent = i32x4.splat(0x7f800000);
  let found = i32x4.splat(0);
  let others = i32x4.splat(0);
  for (; count >= 8; count -= 8, x += 32) {
    found = v128.or(found, i32x4.eq(v128.and(v128.load(x), exponent), exponent));
    others = v128.or(others, i32x4.eq(v128.and(v128.load(x, 16), exponent), exponent));
  }
  for (; count > 0; count--, x += 4) {
    if ((load<i32>(x) & 0x7f800000) == 0x7f800000) return false;
  }
  return !v128.any_true(v128.or(found, others));
}
