/** What commands say, and how: lines for people, tables with their columns below one another. */
import type { Finding } from '../store/findings.ts';

export interface Report {
  /** What was asked for. */
  say(line: string): void;
  /** What should be known besides. */
  warn(line: string): void;
}

/** How a command ended, for whoever called it. */
export const exits = { well: 0, wrong: 1, notDone: 2 } as const;
export type Exit = (typeof exits)[keyof typeof exits];

/** Columns of numbers stand to the right. */
export function table(titles: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => String(row[column]).length)),
  );
  const line = (cells: readonly (string | number)[], like: readonly (string | number)[]): string => {
    const padded = cells.map((cell, column) => {
      const width = widths[column] as number;
      return typeof like[column] === 'number' ? String(cell).padStart(width) : String(cell).padEnd(width);
    });
    return padded.join('  ').trimEnd();
  };
  return [line(titles, rows[0] ?? titles), ...rows.map((row) => line(row, row))];
}

export function problemLine({ file, session, rule }: Finding): string {
  return `problem: ${file}${session === undefined ? '' : ` (session ${session})`}: ${rule}`;
}
