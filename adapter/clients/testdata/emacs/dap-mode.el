;;; dap-mode.el --- what the test asks of dap-mode -*- lexical-binding: t -*-

;; Loaded after the configuration of docs/clients.md. The test calls these
;; functions through emacsclient; each does what a key or the menu does.

(require 'cl-lib)

;; Nobody is there to be asked.
(setq dap-auto-configure-features nil
      lsp-session-file (expand-file-name "lsp-session" user-emacs-directory)
      dap-breakpoints-file (expand-file-name "dap-breakpoints" user-emacs-directory))

(defun test-attach (pid)
  "Attach to PID with the template of the configuration."
  (cl-letf (((symbol-function 'read-number) (lambda (&rest _) pid)))
    (dap-debug (copy-tree (cdr (assoc "Darn: attach" dap-debug-template-configurations)))))
  nil)

(defun test-toggle-breakpoint (file line)
  "Set a breakpoint at LINE of FILE, or delete it."
  (with-current-buffer (find-file-noselect file)
    (goto-char (point-min))
    (forward-line (1- line))
    (dap-breakpoint-toggle))
  nil)

(defun test-running ()
  "Say whether the session has begun."
  (when-let ((session (dap--cur-session)))
    (format "%s" (dap--debug-session-state session))))

(defun test-stack ()
  "Return the stack that is shown, nil while the target runs."
  (when-let ((session (dap--cur-session))
             (thread (dap--debug-session-thread-id session))
             ((dap--debug-session-active-frame session))
             (frames (gethash thread (dap--debug-session-thread-stack-frames session))))
    (mapconcat (lambda (frame)
                 (format "%s %s:%d" (gethash "name" frame)
                         (gethash "path" (gethash "source" frame (make-hash-table)) "")
                         (gethash "line" frame)))
               frames "\n")))

(defun test-continue ()
  "Let the target go on."
  (call-interactively #'dap-continue)
  nil)

(defun test-console ()
  "Return what the debug console shows."
  (dap-ui-repl)
  (with-current-buffer dap-ui--repl-buffer
    (buffer-substring-no-properties (point-min) (point-max))))

(defun test-prompt ()
  "Return what the debug console shows last when it is ready."
  dap-ui-repl-prompt)

(defun test-type (command)
  "Type COMMAND into the debug console."
  (with-current-buffer dap-ui--repl-buffer
    (goto-char (point-max))
    (insert command)
    (comint-send-input))
  nil)

(defun test-disconnect ()
  "End the session."
  (call-interactively #'dap-disconnect)
  nil)
