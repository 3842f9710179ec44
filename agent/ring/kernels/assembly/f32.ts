/** The exact wire. It loses nothing, so `residual` stays as it is. */
export function encodeF32(out: usize, x: usize, addend: usize, residual: usize, keep: bool, count: i32): void {
  let i = count;
  if (addend == 0) {
    memory.copy(out, x, <usize>count << 2);
    return;
  }
  for (; i >= 8; i -= 8, out += 32, x += 32, addend += 32) {
    const low = f32x4.add(v128.load(x), v128.load(addend));
    const high = f32x4.add(v128.load(x, 16), v128.load(addend, 16));
    v128.store(out, low);
    v128.store(out, high, 16);
    if (keep) {
      v128.store(x, low);
      v128.store(x, high, 16);
    }
  }
  for (; i > 0; i--, out += 4, x += 4, addend += 4) {
    const sum = load<f32>(x) + load<f32>(addend);
    store<f32>(out, sum);
    if (keep) store<f32>(x, sum);
  }
}
