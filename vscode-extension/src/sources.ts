import { exec } from './exec';
import { t } from './l10n';
import { Refusal } from './protocol';

/** A file that a patch changed, with copies of its old and its new text. */
export interface ChangedFile {
  path: string;
  /** '' if the file is new */
  old: string;
  new: string;
}

/** What the source of a module was and is, by the module's hash, as darn has kept it. Rejects with a Refusal if it has not. */
export async function changedFiles(darn: string, module: string): Promise<ChangedFile[]> {
  const ended = await exec(darn, ['sources', '--json', module]);
  try {
    const answer = JSON.parse(ended.stdout) as { sources?: ChangedFile[]; error?: string };
    if (answer.sources) {
      return answer.sources;
    }
    throw new Refusal(answer.error ?? ended.stderr);
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(ended.stderr || t('darn says nothing of the source of this patch'));
  }
}
