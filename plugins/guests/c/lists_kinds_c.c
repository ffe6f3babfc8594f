/*
 * Says of each entry of its mount what the C library takes it for, then removes
 * it. The note has a line each: `name listed=KIND lstat=KIND stat=KIND
 * open=ANSWER link=ANSWER remove=ANSWER`; `listed` is `-` where the listing does
 * not tell.
 *
 * The contract's export is written by hand, as the canonical ABI has it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Most entries of the mount. */
#define MOST 64

static char said[32 * 1024];
static size_t length;

static const char *kind(mode_t mode) {
    if (S_ISREG(mode)) return "file";
    if (S_ISDIR(mode)) return "folder";
    if (S_ISLNK(mode)) return "link";
    if (S_ISBLK(mode)) return "block";
    if (S_ISCHR(mode)) return "char";
    return "other";
}

static const char *listed(unsigned char type) {
    switch (type) {
    case DT_REG: return "file";
    case DT_DIR: return "folder";
    case DT_LNK: return "link";
    case DT_BLK: return "block";
    case DT_CHR: return "char";
    case DT_UNKNOWN: return "-";
    default: return "other";
    }
}

static const char *answer(int failed) { return failed ? strerror(errno) : "ok"; }

struct found {
    char name[256];
    unsigned char type;
    char looked[128];
};

static void look(struct found *found) {
    char path[300];
    snprintf(path, sizeof path, "/%s", found->name);
    struct stat stat_itself, stat_target;
    const char *itself = lstat(path, &stat_itself) ? "none" : kind(stat_itself.st_mode);
    const char *target = stat(path, &stat_target) ? "none" : kind(stat_target.st_mode);
    int fd = open(path, O_RDONLY);
    const char *opened = answer(fd < 0);
    if (fd >= 0) close(fd);
    char to[64];
    int link = readlink(path, to, sizeof to) >= 0;
    snprintf(found->looked, sizeof found->looked, "lstat=%s stat=%s open=%s link=%s", itself, target, opened,
             link ? "yes" : "no");
}

static void remove_it(const struct found *found) {
    char path[300];
    snprintf(path, sizeof path, "/%s", found->name);
    const char *removed = answer(found->type == DT_DIR ? rmdir(path) : unlink(path));
    length += (size_t)snprintf(said + length, sizeof said - length, "%s listed=%s %s remove=%s\n", found->name,
                               listed(found->type), found->looked, removed);
}

static void list(void) {
    /* The names come first: what is removed while it is listed may be skipped. */
    static struct found found[MOST];
    size_t count = 0;
    DIR *folder = opendir("/");
    if (!folder) {
        length = (size_t)snprintf(said, sizeof said, "opendir: %s\n", strerror(errno));
        return;
    }
    struct dirent *entry;
    while (count < MOST && (entry = readdir(folder))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        found[count].type = entry->d_type;
        strncpy(found[count++].name, entry->d_name, sizeof found->name - 1);
    }
    closedir(folder);
    /* Nothing goes before all were looked at: links lead from one to another. */
    for (size_t at = 0; at < count; at++) look(&found[at]);
    for (size_t at = 0; at < count; at++) remove_it(&found[at]);
}

/* A `result<outcome, failure>` of the contract: `ok(done(some(text)))`. */
struct result {
    uint32_t is_error, outcome, is_some;
    const char *text;
    size_t length;
    uint32_t more[4];
};

__attribute__((export_name("sweepd:job/executor@0.1.0#execute")))
struct result *execute(uint64_t id, char *key, size_t key_length, int has_payload, char *payload,
                       size_t payload_length, uint32_t attempt, uint32_t max_attempts, uint64_t enqueued_at) {
    static struct result result;
    length = 0;
    list();
    result = (struct result){.outcome = 0, .is_some = 1, .text = said, .length = length};
    return &result;
}

__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    void *new = realloc(old, size);
    if (!new) abort();
    return new;
}
