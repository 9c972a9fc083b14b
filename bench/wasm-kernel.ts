/** The kernel's own exports over a bank's memory, with the data and the order of steps that kernel.c has. */
import { allocateBank, type Bank, dataStart, takenBytes } from '../src/kernel/bank.ts';
import { gradientValue, randomRows } from './numbers.ts';

const { fround } = Math;
const beta1 = fround(0.9);
const [alpha, omb1, beta2, eps] = [fround(0.01), fround(1 - beta1), fround(0.999), fround(1e-7)];

/** A step to be repeated, and a checksum of `w`, to be compared with that of kernel.c after as many steps. */
export interface KernelSteps {
  step(): void;
  checksum(): number;
}

export function denseSteps(elements: number): KernelSteps {
  const bytes = elements * 4;
  const { bank, addresses } = layOut([bytes, bytes, bytes, bytes]);
  const [w, m, v, g] = addresses as [number, number, number, number];
  touch(bank);
  fillGradient(bank, g, elements);
  return {
    step: () => bank.f32.dense(w, m, v, g, elements, alpha, omb1, beta2, eps),
    checksum: () => checksum(bank, w, elements),
  };
}

export interface SparseCase {
  readonly width: number;
  /** Of the variable. */
  readonly rows: number;
  /** Rows of one step, of which there are so many lists, taken in turn. */
  readonly count: number;
  readonly lists: number;
}

export function sparseSteps({ width, rows, count, lists }: SparseCase): KernelSteps {
  const bytes = rows * width * 4;
  const listsBytes = lists * count * 4;
  const sumsBytes = count * width * 4;
  const { bank, addresses } = layOut([bytes, bytes, bytes, listsBytes, sumsBytes]);
  const [w, m, v, listsAt, sums] = addresses as [number, number, number, number, number];
  touch(bank);
  const numbers = new Int32Array(bank.bytes.buffer, listsAt, lists * count);
  for (let list = 0; list < lists; list++) numbers.set(randomRows(list, count, rows), list * count);
  fillGradient(bank, sums, count * width);
  let next = 0;
  return {
    step: () => {
      const list = listsAt + next * count * 4;
      bank.f32.sparse(w, m, v, list, sums, count, width, width, alpha, beta1, omb1, beta2, eps);
      next = (next + 1) % lists;
    },
    checksum: () => checksum(bank, w, rows * width),
  };
}

/** A bank with room for arrays of so many bytes, and where they begin. */
function layOut(sizes: readonly number[]): { bank: Bank; addresses: number[] } {
  let next = dataStart;
  const addresses = sizes.map((bytes) => {
    const address = next;
    next += takenBytes(bytes);
    return address;
  });
  return { bank: allocateBank(next - dataStart), addresses };
}

/** Makes the system provide every page now, as kernel.c does, and not within the first steps. */
function touch(bank: Bank): void {
  bank.bytes.fill(0);
}

function fillGradient(bank: Bank, address: number, count: number): void {
  const gradient = new Float32Array(bank.bytes.buffer, address, count);
  for (let k = 0; k < count; k++) gradient[k] = gradientValue(k);
}

function checksum(bank: Bank, address: number, count: number): number {
  const words = new Uint32Array(bank.bytes.buffer, address, count);
  let sum = 0;
  for (let k = 0; k < count; k++) sum = (Math.imul(sum, 31) + (words[k] as number)) | 0;
  return sum >>> 0;
}
