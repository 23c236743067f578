/** What tells listeners of changes, as events of the editor do. */
type Event = (listener: () => void) => { dispose(): void };

/** Resolves when a condition holds, which is asked now and after each change. */
export function until(onDidChange: Event, holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    if (holds()) {
      resolve();
      return;
    }
    const subscription = onDidChange(() => {
      if (holds()) {
        subscription.dispose();
        resolve();
      }
    });
  });
}
