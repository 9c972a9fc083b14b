/** The server that is fuzzed: bounds that requests of some KiB can meet. */
import type { Config } from '../../src/config.ts';

const MiB = 1024 * 1024;

export const fuzzConfig: Partial<Config> = { bodyBytesMax: MiB / 4, memoryBytesMax: 32 * MiB, threads: 1 };
