// k6 with one module more, `k6/x/kafka`: `import { connect } from 'k6/x/kafka'`.
package main

import (
	k6cmd "go.k6.io/k6/v2/cmd"
	"go.k6.io/k6/v2/js/modules"
)

func main() {
	modules.Register("k6/x/kafka", root{})
	k6cmd.Execute()
}
