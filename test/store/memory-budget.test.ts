/** Memory is lent and reserved up to the bound, to the byte, and what is given back can be had again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryBudget } from '../../src/store/memory-budget.ts';

const overloaded = { code: 'overloaded', status: 503, headers: { 'retry-after': '1' } };

test('requests get what sessions leave, to the byte', () => {
  const budget = new MemoryBudget(100, () => 60);
  budget.lend(30);
  assert.throws(() => budget.lend(11), { ...overloaded, message: /40 bytes .* Received: 11 bytes beside 30$/ });
  budget.lend(10);
  assert.throws(() => budget.lend(1), overloaded);
});

test('what was given back, once or twice, can be had again, once', () => {
  const budget = new MemoryBudget(100, () => 0);
  const first = budget.lend(60);
  budget.lend(40);
  first();
  first();
  budget.lend(60);
  assert.throws(() => budget.lend(1), overloaded);
});

test('what could not fit even if nobody else had any is no overload', () => {
  const budget = new MemoryBudget(100, () => 60);
  assert.throws(() => budget.lend(41), { code: 'insufficient_memory', message: /40 bytes .* Received: 41 bytes$/ });
});

test('a session in the making counts for other sessions and for requests, until it is there or given up', () => {
  let held = 0;
  const budget = new MemoryBudget(100, () => held);
  const release = budget.reserve(70);
  assert.throws(() => budget.reserve(31), { code: 'insufficient_memory', message: /30 bytes .* Received: 31 bytes$/ });
  assert.throws(() => budget.lend(31), { code: 'insufficient_memory' });
  held = 70;
  release();
  budget.lend(30);
  assert.throws(() => budget.lend(1), overloaded);
});

test('a session does not wait for requests: only they give their part back by themselves', () => {
  const budget = new MemoryBudget(100, () => 0);
  budget.lend(90);
  budget.reserve(100);
});
