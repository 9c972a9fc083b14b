/** What an Adamax cannot have (the table of test/optimizer/refusals.ts), over HTTP: at creation and at change. */
import { after } from 'node:test';
import { exponential, refusedMembers } from '../optimizer/refusals.ts';
import { startApi } from '../support/api.ts';
import { createHonest, type Hostile, refuseAll, session } from './hostile.ts';

const api = await startApi({ after });
await createHonest(api);

const creation = { method: 'PUT', path: '/v1/sessions/hostile' };
const change = { method: 'PATCH', path: session };

/** JSON text with the numbers that only JavaScript has: infinities as 1e999. NaN has no text at all. */
const text = (value: unknown): string =>
  JSON.stringify(value, (_, each) => (each === Number.POSITIVE_INFINITY ? '∞' : each)).replaceAll('"∞"', '1e999');

const piecewise = (config: object) => ({ learning_rate: { class_name: 'PiecewiseConstantDecay', config } });
const schedules: typeof refusedMembers = [
  [
    'boundaries that fall',
    piecewise({ boundaries: [2, 1], values: [1, 2, 3] }),
    'learning_rate/config/boundaries',
    /rise strictly\. Received: \[2, 1\]$/,
  ],
  [
    'as many boundaries as values',
    piecewise({ boundaries: [1, 2], values: [1, 2] }),
    'learning_rate/config/boundaries',
    /one fewer than its 2 values\. Received: 2$/,
  ],
  [
    'a rate that is no number',
    piecewise({ boundaries: [1], values: [1, '2'] }),
    'learning_rate/config/values/1',
    /Received: "2"$/,
  ],
  [
    'a member that the schedule has not',
    { learning_rate: { ...exponential, config: { ...exponential.config, decay: 1 } } },
    'learning_rate/config/decay',
    /Received: "decay"$/,
  ],
];

for (const [what, call] of Object.entries({ creation, change })) {
  const rows = [...refusedMembers, ...schedules]
    // A patch takes null for the default.
    .filter(([, config]) => !Object.values(config).some((value) => Number.isNaN(value)))
    .filter(([, config]) => what === 'creation' || !Object.values(config).includes(null));
  refuseAll(
    `the ${what} of an Adamax beyond its rules is refused`,
    api,
    rows.map(
      ([name, config, member, detail]): Hostile => ({
        ...call,
        name,
        json: text({ optimizer: { class_name: 'Adamax', config } }),
        code: 'invalid_argument',
        detail,
        pointer: `/optimizer/config/${member}`,
      }),
    ),
  );
}
