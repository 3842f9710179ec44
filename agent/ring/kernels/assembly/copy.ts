/** Bytes within the memory, which is shared: what JavaScript has for that copies word by word, at a half to a thirtieth of the speed. */
export function copy(out: usize, from: usize, bytes: i32): void {
  memory.copy(out, from, <usize>bytes);
}
