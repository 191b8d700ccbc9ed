// The bank of examples/bank, with a witness: each step keeps a connection to
// BANK_WITNESS (a port) open while it runs, so that an observer outside sees
// two steps of one account at once, whoever runs them.
const express = require('express')
const net = require('net')
const path = require('path')
const { sys } = require('kar-sdk')
const { Account } = require(path.join(process.env.BANK_DIR, 'account'))

// A step begins when the witness has said so and ends when the connection closes, as it also does when this process dies.
function witnessed (id, step, run) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(process.env.BANK_WITNESS), '127.0.0.1')
    socket.on('error', reject)
    socket.once('data', () => {
      Promise.resolve().then(run).then(value => {
        socket.end(() => resolve(value))
      }, err => {
        socket.end(() => reject(err))
      })
    })
    socket.write(`${id} ${step}\n`)
  })
}

class Watched extends Account {}
for (const step of ['withdraw', 'deposit', 'settle']) {
  Watched.prototype[step] = function (...args) {
    return witnessed(this.kar.id, step, () => Account.prototype[step].apply(this, args))
  }
}

const app = express()
app.use(sys.actorRuntime({ Account: Watched }))
sys.h2c(app).listen(process.env.KAR_APP_PORT, '127.0.0.1')
