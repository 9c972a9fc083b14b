/**
 * Reads JSON text forwards, by what the caller expects next, where `JSON.parse` would hide what matters: it keeps only the
 * last of two equal names, moves names such as "0" to the front, drops "__proto__" and rounds long integers. As the caller
 * names every level, text nested a million deep is refused at the first bracket that nobody expects, on a flat stack.
 * Which members there are, and what they mean, is left to the caller (safetensors.ts).
 */
import { Problem } from '../errors.ts';

/** 2^53 - 1 has 16 digits; a million of them would only be read to be refused. */
const integer = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;
const loneSurrogate = /\p{Surrogate}/u;
/** What a message quotes: the number or word that stands there, or else the next characters. */
const excerpt = /[\w.+-]{1,40}|.{0,40}/sy;

/** Text for a message: in quotes, escaped, and cut where it is long. */
export function quote(text: string): string {
  return text.length <= 80 ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, 80))}…`;
}

export class JsonReader {
  readonly #text: string;
  readonly #subject: string;
  #position = 0;

  /** `subject` opens the messages about JSON itself: "safetensors header". */
  constructor(text: string, subject: string) {
    this.#text = text;
    this.#subject = subject;
  }

  /** The names of an object's members, each yielded where its value is to be read next. `rule` is broken by any other value. */
  *members(rule: string): Generator<string> {
    const names = new Set<string>();
    this.#expect('{', rule);
    if (this.#take('}')) return;
    do {
      const name = this.string(`${this.#subject} must be JSON, with a name in quotes here`);
      if (names.has(name)) this.#fail(`${this.#subject} must not have duplicate names`, quote(name));
      names.add(name);
      this.#expect(':', `${this.#subject} must be JSON, with ":" here`);
      yield name;
    } while (this.#take(','));
    this.#expect('}', `${this.#subject} must be JSON, with "," or "}" here`);
  }

  /** An array of integers, each 0 to `Number.MAX_SAFE_INTEGER` and without sign, fraction or exponent; at most `lengthMax`. */
  integers(rule: string, lengthMax: number): number[] {
    const values: number[] = [];
    this.#expect('[', rule);
    if (this.#take(']')) return values;
    do {
      if (values.length === lengthMax) this.#fail(rule, `more than ${lengthMax}`);
      values.push(this.#integer(rule));
    } while (this.#take(','));
    this.#expect(']', rule);
    return values;
  }

  /** A string, its escapes resolved. `rule` is broken by any other value. */
  string(rule: string): string {
    this.#expect('"', rule);
    const start = this.#position - 1;
    this.#skipToQuote();
    const token = this.#text.slice(start, this.#position);
    let value: unknown;
    try {
      value = JSON.parse(token);
    } catch {
      // A control character or an unknown escape; refused below, as half of a surrogate pair is.
    }
    if (typeof value !== 'string' || loneSurrogate.test(value)) {
      this.#fail(`${this.#subject} must be JSON, with strings of Unicode text`, quote(token));
    }
    return value;
  }

  /** Only whitespace may follow. */
  end(): void {
    if (this.#next() !== '') this.#fail(`${this.#subject} must end with its JSON object, spaces aside`);
  }

  /** Moves from inside a string to just behind the quote that closes it. */
  #skipToQuote(): void {
    while (this.#position < this.#text.length) {
      const character = this.#text.charAt(this.#position++);
      if (character === '"') return;
      if (character === '\\') this.#position++;
    }
    this.#fail(`${this.#subject} must be JSON, with its strings closed`);
  }

  #integer(rule: string): number {
    this.#next();
    integer.lastIndex = this.#position;
    const value = Number(integer.exec(this.#text)?.[0] ?? Number.NaN);
    if (!Number.isSafeInteger(value)) this.#fail(rule);
    this.#position = integer.lastIndex;
    return value;
  }

  #expect(character: string, rule: string): void {
    if (!this.#take(character)) this.#fail(rule);
  }

  #take(character: string): boolean {
    if (this.#next() !== character) return false;
    this.#position++;
    return true;
  }

  /** The character that stands next, whitespace aside, or '' at the end. */
  #next(): string {
    for (; this.#position < this.#text.length; this.#position++) {
      const character = this.#text.charAt(this.#position);
      if (character !== ' ' && character !== '\n' && character !== '\r' && character !== '\t') return character;
    }
    return '';
  }

  #fail(rule: string, received = this.#excerpt()): never {
    throw new Problem('malformed_body', `${rule}. Received: ${received}`);
  }

  #excerpt(): string {
    excerpt.lastIndex = this.#position;
    const text = excerpt.exec(this.#text)?.[0];
    return text ? quote(text) : 'the end of the text';
  }
}
