/** The variables of the model: a few small ones, changed by the reference's formulas. */
import type { Hyperparameters, State } from '../support/reference-adamax.ts';
import { referenceDense, referenceScalars, referenceSparse, rounding } from '../support/reference-adamax.ts';
import { type Gradient, type Gradients, type Shapes, type VariableShape, widthOf } from './plain-reduction.ts';

export type Part = 'w' | 'm' | 'v';

/** Rows, where a gradient was sparse: each once, ascending. */
export type Values = { readonly indices?: readonly number[]; readonly values: readonly number[] };

export class PlainVariables {
  readonly shapes: Shapes;
  readonly #states = new Map<string, State>();

  constructor(shapes: Shapes, initial: Readonly<Record<string, readonly number[]>>) {
    this.shapes = shapes;
    for (const [name, { dtype }] of Object.entries(shapes)) {
      const w = Float64Array.from(initial[name] as readonly number[], rounding(dtype));
      this.#states.set(name, { w, m: new Float64Array(w.length), v: new Float64Array(w.length) });
    }
  }

  /** The values afterwards of what the gradients name. */
  step(
    gradients: Gradients,
    config: Hyperparameters,
    iterations: number,
    divisor: number,
  ): Readonly<Record<string, Values>> {
    for (const [name, gradient] of Object.entries(gradients)) {
      const { dtype, shape } = this.#shape(name);
      const scalars = referenceScalars(config, iterations, dtype, divisor);
      const values = gradient.values.map(rounding(dtype));
      const { indices } = gradient;
      if (indices === undefined) referenceDense(this.#state(name), values, scalars, dtype);
      else referenceSparse(this.#state(name), widthOf(shape), indices, values, scalars, dtype);
    }
    return Object.fromEntries(Object.entries(gradients).map(([name, gradient]) => [name, this.#after(name, gradient)]));
  }

  assign(part: Part, name: string, { values, indices }: Gradient): void {
    const { dtype, shape } = this.#shape(name);
    const to = this.#state(name)[part];
    const f = rounding(dtype);
    const width = widthOf(shape);
    values.forEach((x, k) => {
      const row = indices === undefined ? undefined : (indices[Math.floor(k / width)] as number);
      to[row === undefined ? k : row * width + (k % width)] = f(x);
    });
  }

  /** All bits, by part and name. */
  get bits(): Record<string, string> {
    const entries = [...this.#states].flatMap(([name, state]) => {
      const { dtype } = this.#shape(name);
      return (['w', 'm', 'v'] as const).map((part) => [`${name}:${part}`, bitsOf(state[part], dtype)]);
    });
    return Object.fromEntries(entries);
  }

  #after(name: string, { indices }: Gradient): Values {
    const { w } = this.#state(name);
    if (indices === undefined) return { values: [...w] };
    const width = widthOf(this.#shape(name).shape);
    const rows = [...new Set(indices)].sort((a, b) => a - b);
    return { indices: rows, values: rows.flatMap((row) => [...w.subarray(row * width, (row + 1) * width)]) };
  }

  #state(name: string): State {
    return this.#states.get(name) as State;
  }

  #shape(name: string): VariableShape {
    return this.shapes[name] as VariableShape;
  }
}

function bitsOf(values: Float64Array, dtype: VariableShape['dtype']): string {
  const { buffer } = dtype === 'F32' ? new Float32Array(values) : values.slice();
  return Buffer.from(buffer as ArrayBuffer).toString('hex');
}
