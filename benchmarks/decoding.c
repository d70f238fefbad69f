/* The arithmetic of decoding one token of GPT-2, and nothing else: what decoding.py is held against.
   gcc -O3 -march=native -ffast-math -o decoding decoding.c -lm; prints microseconds per token. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LAYERS = 4, HEADS = 4, WIDTH = 128, HEAD = WIDTH / HEADS, HIDDEN = 4 * WIDTH, WINDOW = 256, SYMBOLS = 65 };

static float *numbers(int n) {
    float *a = malloc(sizeof(float) * n);
    for (int i = 0; i < n; i++) a[i] = 0.02f * (rand() / (float)RAND_MAX - 0.5f);
    return a;
}

typedef struct { float *gain1, *bias1, *qkv, *qkv_b, *out, *out_b, *gain2, *bias2, *up, *up_b, *down, *down_b, *keys, *values; } Layer;

static void multiply(const float *x, const float *w, const float *b, float *y, int n, int m) { /* y = x W + b, W (m, n) as llama2.c has it */
    for (int j = 0; j < m; j++) {
        float total = b ? b[j] : 0;
        for (int i = 0; i < n; i++) total += x[i] * w[j * n + i];
        y[j] = total;
    }
}

static void normalise(const float *x, const float *gain, const float *bias, float *y) {
    float mean = 0, square = 0;
    for (int i = 0; i < WIDTH; i++) mean += x[i];
    mean /= WIDTH;
    for (int i = 0; i < WIDTH; i++) square += (x[i] - mean) * (x[i] - mean);
    float scale = 1 / sqrtf(square / WIDTH + 1e-5f);
    for (int i = 0; i < WIDTH; i++) y[i] = gain[i] * (x[i] - mean) * scale + bias[i];
}

int main(void) {
    Layer layers[LAYERS];
    for (int l = 0; l < LAYERS; l++)
        layers[l] = (Layer){numbers(WIDTH), numbers(WIDTH), numbers(3 * WIDTH * WIDTH), numbers(3 * WIDTH), numbers(WIDTH * WIDTH), numbers(WIDTH),
                            numbers(WIDTH), numbers(WIDTH), numbers(WIDTH * HIDDEN), numbers(HIDDEN), numbers(HIDDEN * WIDTH), numbers(WIDTH),
                            numbers(WINDOW * WIDTH), numbers(WINDOW * WIDTH)};
    float *embedding = numbers(SYMBOLS * WIDTH), *positions = numbers(WINDOW * WIDTH), *gain = numbers(WIDTH), *bias = numbers(WIDTH);
    float x[WIDTH], normal[WIDTH], qkv[3 * WIDTH], mixed[WIDTH], h[HIDDEN], added[WIDTH], scores[WINDOW], logits[SYMBOLS];
    double best = 1e9;
    int token = 0;
    for (int run = 0; run < 20; run++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int p = 0; p < WINDOW; p++) {
            for (int i = 0; i < WIDTH; i++) x[i] = embedding[token * WIDTH + i] + positions[p * WIDTH + i];
            for (int l = 0; l < LAYERS; l++) {
                Layer *w = &layers[l];
                normalise(x, w->gain1, w->bias1, normal);
                multiply(normal, w->qkv, w->qkv_b, qkv, WIDTH, 3 * WIDTH);
                for (int i = 0; i < WIDTH; i++) {
                    int at = (i / HEAD * WINDOW + p) * HEAD + i % HEAD;
                    w->keys[at] = qkv[WIDTH + i];
                    w->values[at] = qkv[2 * WIDTH + i];
                }
                for (int k = 0; k < HEADS; k++) {
                    float top = -1e30f, total = 0, *y = mixed + k * HEAD;
                    for (int t = 0; t <= p; t++) {
                        float s = 0;
                        for (int i = 0; i < HEAD; i++) s += qkv[k * HEAD + i] * w->keys[(k * WINDOW + t) * HEAD + i];
                        scores[t] = s / sqrtf(HEAD);
                        if (scores[t] > top) top = scores[t];
                    }
                    for (int t = 0; t <= p; t++) total += scores[t] = expf(scores[t] - top);
                    for (int i = 0; i < HEAD; i++) y[i] = 0;
                    for (int t = 0; t <= p; t++)
                        for (int i = 0; i < HEAD; i++) y[i] += scores[t] / total * w->values[(k * WINDOW + t) * HEAD + i];
                }
                multiply(mixed, w->out, w->out_b, added, WIDTH, WIDTH);
                for (int i = 0; i < WIDTH; i++) x[i] += added[i];
                normalise(x, w->gain2, w->bias2, normal);
                multiply(normal, w->up, w->up_b, h, WIDTH, HIDDEN);
                for (int i = 0; i < HIDDEN; i++) h[i] = 0.5f * h[i] * (1 + tanhf(0.7978846f * (h[i] + 0.044715f * h[i] * h[i] * h[i])));
                multiply(h, w->down, w->down_b, added, HIDDEN, WIDTH);
                for (int i = 0; i < WIDTH; i++) x[i] += added[i];
            }
            normalise(x, gain, bias, normal);
            multiply(normal, embedding, 0, logits, WIDTH, SYMBOLS);
            float top = -1e30f, total = 0, draw = rand() / (float)RAND_MAX; /* a token is drawn, as the others do */
            for (int s = 0; s < SYMBOLS; s++) top = logits[s] > top ? logits[s] : top;
            for (int s = 0; s < SYMBOLS; s++) total += logits[s] = expf(logits[s] - top);
            for (token = 0; token < SYMBOLS - 1 && (draw -= logits[token] / total) > 0; token++) {}
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        double took = ((end.tv_sec - start.tv_sec) * 1e6 + (end.tv_nsec - start.tv_nsec) * 1e-3) / WINDOW;
        if (took < best) best = took;
    }
    printf("%.2f\n", best);
    return 0;
}
