/**
 * Unknown tokens by the address that they came from. An address that has sent too many of them is not listened to for a while,
 * so that nobody finds a token by trying.
 */
import { isIPv6 } from 'node:net';
import { guessesBurst, guessesPerSecond, guessingAddressesMax } from '../limits.ts';
import { Rate } from './rate.ts';

export class Guesses {
  /** The latest at the end. */
  readonly #rates = new Map<string, Rate>();

  /** The seconds until another token from this address is looked at; 0 if it is now. */
  wait(address: string, now = performance.now()): number {
    return this.#rates.get(networkOf(address))?.wait(now) ?? 0;
  }

  /** An unknown token came from there. */
  count(address: string, now = performance.now()): void {
    const network = networkOf(address);
    const rate = this.#rates.get(network) ?? new Rate(guessesPerSecond, guessesBurst, now);
    this.#rates.delete(network);
    this.#rates.set(network, rate);
    rate.take(now);
    const [oldest] = this.#rates.keys();
    if (this.#rates.size > guessingAddressesMax) this.#rates.delete(oldest as string);
  }
}

/** Who has an IPv6 address has its 2^64 neighbours too. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address;
  const [head = '', tail] = address.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = tail === undefined ? [] : Array<string>(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...(tail ?? [])].slice(0, 4).join(':');
}
