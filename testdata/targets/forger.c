// Makes something that looks like an arena of Darn's and is none, in the way
// that the first argument says.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *how = argv[1];
	uint64_t size = 64 << 20;
	int huge = !strcmp(how, "hugetlb"), pages = huge ? MFD_HUGETLB : 0;
	int fd = memfd_create("darn", MFD_CLOEXEC | MFD_ALLOW_SEALING | pages);
	if (!strcmp(how, "huge"))
		size = 1ull << 40;
	if (!strcmp(how, "empty"))
		size = 4096;
	if (ftruncate(fd, size))
		return 1;
	struct {
		char magic[8];
		uint64_t version, size;
	} header = {"darnARNA", 2, size};
	if (!strcmp(how, "magic"))
		header.magic[0] = 'D';
	if (!strcmp(how, "version"))
		header.version = 1000;
	if (!strcmp(how, "size"))
		header.size = 1ull << 62;
	if (size > 4096 && !huge && pwrite(fd, &header, sizeof header, 4096) < 0)
		return 1;
	if (!strcmp(how, "garbage")) {
		char garbage[4096];
		memset(garbage, 0xff, sizeof garbage);
		for (off_t at = 16384; at < size; at += 8 << 20)
			if (pwrite(fd, garbage, sizeof garbage, at) < 0)
				return 1;
	}
	if (strcmp(how, "unsealed") && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | (strcmp(how, "readonly") ? F_SEAL_SEAL : 0)))
		return 1;
	if (!strcmp(how, "readonly") && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
		return 1;
	if (mmap(NULL, huge ? 2 << 20 : 4096, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0) == MAP_FAILED)
		return 1;
	if (!strcmp(how, "closed"))
		close(fd);
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}
