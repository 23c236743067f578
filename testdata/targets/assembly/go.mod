module assembly

go 1.24
