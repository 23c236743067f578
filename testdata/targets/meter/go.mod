module meter

go 1.24
