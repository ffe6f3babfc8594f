/*
 * Says why on standard error and aborts, in a function with a name. A key that
 * begins with `q` aborts without a word, one with `f` fills standard error first.
 *
 * The contract's export is written by hand, as the canonical ABI has it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) static void give_up_on(const char *key, size_t length) {
    if (key[0] == 'f')
        for (int line = 0; line < 2000; line++) fprintf(stderr, "line %d of a flood that says nothing\n", line);
    if (key[0] != 'q') fprintf(stderr, "no index of \x1b[2J%.*s\nforged: all is well\n", (int)length, key);
    abort();
}

__attribute__((export_name("sweepd:job/executor@0.1.0#execute")))
void *execute(uint64_t id, char *key, size_t key_length, int has_payload, char *payload, size_t payload_length,
              uint32_t attempt, uint32_t max_attempts, uint64_t enqueued_at) {
    give_up_on(key, key_length);
    return 0;
}

__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    void *new = realloc(old, size);
    if (!new) abort();
    return new;
}
