// Package guard is what is asked before a process is touched, and what is kept
// of it: whether a module may be used (who could have changed its file, who has
// signed it, whether it has ended a process before), what the machine's policy
// says, and the audit log.
//
// It binds Darn, and whoever uses Darn: who may trace a process can change it by
// other means too.
package guard
