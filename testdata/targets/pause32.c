// A 32-bit program that waits without end.
void _start(void)
{
	for (;;)
		__asm__ volatile("int $0x80" : : "a"(29)); // pause
}
