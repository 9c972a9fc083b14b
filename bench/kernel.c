/*
 * The loops of src/kernel/assembly/adamax.ts in C, as a reference for bench/kernel.ts, which compiles and drives it.
 *
 *   kernel dense ELEMENTS          kernel sparse WIDTH ROWS COUNT LISTS
 *
 * For each line of input, a number of steps, it takes them and prints the seconds that they took. At the end of input it
 * prints a checksum of w, which must be the kernel's after as many steps. Data: bench/numbers.ts.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const float alpha = 0.01f, beta1 = 0.9f, omb1 = 1.0f - 0.9f, beta2 = 0.999f, eps = 1e-7f;

static float *w, *m, *v, *g;
static size_t size, width, count, lists, next;
static int32_t *rows;

__attribute__((noinline)) static void dense(float *restrict w, float *restrict m, float *restrict v,
                                            const float *restrict g, size_t n) {
  for (size_t i = 0; i < n; i++) {
    float mean = m[i] + (g[i] - m[i]) * omb1;
    float decayed = beta2 * v[i], size = fabsf(g[i]);
    float norm = decayed < size ? size : decayed;
    m[i] = mean;
    v[i] = norm;
    w[i] -= alpha * (mean / (norm + eps));
  }
}

static inline void sparseRow(float *restrict w, float *restrict m, float *restrict v, const float *restrict sum,
                             size_t width) {
  for (size_t i = 0; i < width; i++) {
    float mean = m[i] * beta1 + sum[i] * omb1;
    float decayed = v[i] * beta2, size = fabsf(sum[i]);
    float norm = decayed < size ? size : decayed;
    m[i] = mean;
    v[i] = norm;
    w[i] -= alpha * (mean / (norm + eps));
  }
}

__attribute__((noinline)) static void sparse(float *w, float *m, float *v, const int32_t *rows, const float *sums,
                                             size_t count, size_t width) {
  for (size_t k = 0; k < count; k++) {
    size_t at = (size_t)rows[k] * width;
    sparseRow(w + at, m + at, v + at, sums + k * width, width);
  }
}

static void step(void) {
  if (rows == NULL) {
    dense(w, m, v, g, size);
    return;
  }
  sparse(w, m, v, rows + next * count, g, count, width);
  next = (next + 1) % lists;
}

static uint32_t mix(uint32_t bits) {
  bits = (bits ^ (bits >> 16)) * 0x85ebca6bu;
  bits = (bits ^ (bits >> 13)) * 0xc2b2ae35u;
  return bits ^ (bits >> 16);
}

static void *zeros(size_t bytes) {
  void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (memory == NULL) exit(1);
  return memset(memory, 0, bytes);
}

static void prepare(char **argv) {
  int isSparse = strcmp(argv[1], "sparse") == 0;
  size_t gradient = size = strtoull(argv[2], NULL, 10);
  if (isSparse) {
    width = size;
    size_t all = strtoull(argv[3], NULL, 10);
    count = strtoull(argv[4], NULL, 10);
    lists = strtoull(argv[5], NULL, 10);
    size = all * width;
    gradient = count * width;
    rows = zeros(lists * count * sizeof *rows);
    uint32_t stretch = all / count;
    for (uint32_t k = 0; k < lists * count; k++) rows[k] = k % count * stretch + mix(k) % stretch;
  }
  w = zeros(size * sizeof *w);
  m = zeros(size * sizeof *m);
  v = zeros(size * sizeof *v);
  g = zeros(gradient * sizeof *g);
  for (size_t i = 0; i < gradient; i++) g[i] = (mix(i) >> 8) / 16777216.0f - 0.5f;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 6) return 2;
  prepare(argv);
  unsigned long steps;
  while (scanf("%lu", &steps) == 1) {
    double start = now();
    for (unsigned long i = 0; i < steps; i++) step();
    printf("%.9f\n", now() - start);
    fflush(stdout);
  }
  uint32_t checksum = 0;
  for (size_t i = 0; i < size; i++) {
    uint32_t bits;
    memcpy(&bits, w + i, sizeof bits);
    checksum = checksum * 31 + bits;
  }
  printf("%u\n", checksum);
  return 0;
}
