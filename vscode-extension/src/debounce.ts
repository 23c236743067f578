/** Calls with all items that came since the last call, when none has come for delay ms. */
export class Debounce<T> {
  private items = new Set<T>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly delay: number, private readonly call: (items: T[]) => void) {}

  add(item: T): void {
    this.items.add(item);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const items = [...this.items];
      this.items.clear();
      this.call(items);
    }, this.delay);
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.items.clear();
  }
}
