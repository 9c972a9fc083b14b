/** What is found wrong in a data folder, each thing once: where, and the rule that does not hold. */
import { relative } from 'node:path';

export interface Finding {
  /** From the data folder. */
  readonly file: string;
  readonly session?: string;
  readonly rule: string;
}

export class Findings {
  readonly #folder: string;
  readonly #found = new Map<string, Finding>();

  /** `folder`: the data folder. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  get list(): Finding[] {
    return [...this.#found.values()];
  }

  add(path: string, session: string | undefined, rule: string): void {
    const file = relative(this.#folder, path);
    const finding = session === undefined ? { file, rule } : { file, session, rule };
    this.#found.set(JSON.stringify(finding), finding);
  }
}
