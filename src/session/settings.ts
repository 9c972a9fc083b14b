/** A session's settings besides its optimizer, their defaults, and how a merge patch changes them. */

import { Problem } from '../errors.ts';
import { metadataBytesMax, metadataDepthMax } from '../limits.ts';
import {
  type Aggregation,
  defaultAggregation,
  type GivenAggregation,
  mergeAggregation,
  newAggregation,
} from './aggregation.ts';

export interface Checkpointing {
  /** A checkpoint after so many steps since the last one; null: not by that measure. */
  readonly every_steps: number | null;
  /** A checkpoint so many seconds after the last one, if there was a change; null: not by that measure. */
  readonly every_seconds: number | null;
  /** How many checkpoints are kept; older ones go. */
  readonly keep: number;
  /** How many steps of journal are kept for forks, as far as a checkpoint reaches; null: back to the oldest checkpoint. */
  readonly keep_journal_steps: number | null;
}

/**
 * When a change is acknowledged: `always` when it is on the disk, fsynced; `everysec` when it is written, to be fsynced
 * within a second; `checkpoint` at once, so that a crash falls back to the last checkpoint.
 */
export type Durability = 'always' | 'everysec' | 'checkpoint';

export interface SessionSettings {
  readonly durability: Durability;
  readonly checkpointing: Checkpointing;
  readonly aggregation: Aggregation;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** As a merge patch has them: what is absent stays, what is null goes back to its default. */
export interface SettingsPatch {
  readonly durability?: Durability | null;
  readonly checkpointing?: Partial<Checkpointing> | null;
  readonly aggregation?: GivenAggregation | null;
  readonly metadata?: Readonly<Record<string, unknown>> | null;
}

export const defaultSettings: SessionSettings = {
  durability: 'always',
  checkpointing: { every_steps: 1000, every_seconds: 300, keep: 5, keep_journal_steps: null },
  aggregation: defaultAggregation,
  metadata: {},
};

/**
 * The settings of a new session: what is not given has its default. Throws `invalid_argument` for too much metadata and what
 * `newAggregation` throws.
 */
export function newSettings(given: SettingsPatch): SessionSettings {
  return {
    ...defaultSettings,
    durability: given.durability ?? defaultSettings.durability,
    checkpointing: { ...defaultSettings.checkpointing, ...given.checkpointing },
    aggregation: newAggregation(given.aggregation ?? {}),
    metadata: checkMetadata(given.metadata ?? {}),
  };
}

/** Throws `invalid_argument` where the metadata would come to be too much, and what `newAggregation` throws. */
export function mergeSettings(settings: SessionSettings, patch: SettingsPatch): SessionSettings {
  checkExtent(patch.metadata);
  return {
    durability: patch.durability === null ? defaultSettings.durability : (patch.durability ?? settings.durability),
    checkpointing:
      patch.checkpointing === null
        ? defaultSettings.checkpointing
        : { ...settings.checkpointing, ...patch.checkpointing },
    aggregation:
      patch.aggregation === null
        ? defaultSettings.aggregation
        : mergeAggregation(settings.aggregation, patch.aggregation ?? {}),
    metadata: patch.metadata === null ? {} : checkMetadata(mergePatch(settings.metadata, patch.metadata ?? {})),
  };
}

function checkMetadata(metadata: unknown): SessionSettings['metadata'] {
  checkExtent(metadata);
  const bytes = Buffer.byteLength(JSON.stringify(metadata));
  if (bytes <= metadataBytesMax) return metadata as SessionSettings['metadata'];
  throw tooMuch(String(bytes));
}

/** Before anything is merged or written: neither deeper nor of more values than any that could be kept. */
function checkExtent(metadata: unknown): void {
  let left = metadataBytesMax;
  const walk = (value: unknown, levels: number): void => {
    if (--left < 0) throw tooMuch('more');
    if (typeof value !== 'object' || value === null) return;
    if (levels === 0) {
      const rule = `metadata must be nested at most ${metadataDepthMax} deep`;
      throw new Problem('invalid_argument', `${rule}. Received: more`);
    }
    for (const each of Object.values(value)) walk(each, levels - 1);
  };
  walk(metadata, metadataDepthMax);
}

function tooMuch(received: string): Problem {
  const rule = `metadata must have at most ${metadataBytesMax} bytes as JSON`;
  return new Problem('invalid_argument', `${rule}. Received: ${received}`);
}

/** RFC 7396: members of `patch` replace those of `target`, null removes one, objects merge. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
