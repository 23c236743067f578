/** What a placeholder stands for. */
type Value = string | number | boolean;

/** Finds a message in the user's language and fills in its placeholders {0}, {1}… */
export type Translate = (message: string, ...values: Value[]) => string;

const english: Translate = (message, ...values) =>
  message.replace(/\{(\d+)\}/g, (placeholder, n: string) => String(values[Number(n)] ?? placeholder));

let translate = english;

/** Sets what {@link t} uses; without it messages stay English. Called once, by activate. */
export function setTranslate(by: Translate): void {
  translate = by;
}

/** The message in the user's language. Every message has to be in l10n/bundle.l10n.json. */
export const t: Translate = (message, ...values) => translate(message, ...values);
