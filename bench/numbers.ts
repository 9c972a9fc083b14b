/** Reproducible numbers that look random: a function of their position, written the same way in kernel.c. */

/** Spreads an integer over all 32 bits (the finalizer of Appleby's MurmurHash3). */
export function mix(integer: number): number {
  let bits = integer;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** Element `index` of a gradient: from -0.5 to 0.5, exact in F32. */
export function gradientValue(index: number): number {
  return (mix(index) >>> 8) / 2 ** 24 - 0.5;
}

/** The fewest digits that are read as the same F32: what a client writes into JSON. */
export function shortestDigits(float32: number): string {
  for (let digits = 1; digits < 9; digits++) {
    const text = String(Number(float32.toPrecision(digits)));
    if (Math.fround(Number(text)) === float32) return text;
  }
  return String(Number(float32.toPrecision(9)));
}

/** List number `list` of `count` rows out of `rows`: distinct, ascending, one in each stretch of rows / count. */
export function randomRows(list: number, count: number, rows: number): number[] {
  const stretch = rows / count;
  return Array.from({ length: count }, (_, k) => k * stretch + (mix(list * count + k) % stretch));
}
