// There is no Go code of Darn here. This file keeps "./..." of the module above
// out of node_modules, where some packages have Go code.
module github.com/darn-dev/darn/vscode-extension

go 1.24
