// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice Tokens that misbehave in the ways that have cost people money.
contract HostileToken is ERC20 {
    enum Mode {
        Plain,
        TakesFee,
        ReturnsFalse,
        ReturnsFalseButMoves,
        SaysYesMovesNothing,
        Reverts,
        TakesTooMuch
    }

    Mode public mode;
    address public denied;
    /// @notice Whoever receives from this token gets one unit less.
    address public taxed;
    /// @notice How often anything was to be moved.
    uint256 public moves;
    address private _target;
    bytes private _call;
    bool private _forgiving;
    /// @notice What the last call back answered.
    bytes public answer;

    error Denied(address holder);

    constructor() ERC20("Hostile", "HOST") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function set(Mode mode_) external {
        mode = mode_;
    }

    function deny(address holder) external {
        denied = holder;
    }

    function tax(address holder) external {
        taxed = holder;
    }

    /// @notice Call back in the middle of the next transfer.
    function reenter(address target, bytes calldata call_) external {
        (_target, _call) = (target, call_);
    }

    /// @notice Whether a refused call back undoes the transfer.
    function allowReentry(bool strict) external {
        _forgiving = !strict;
    }

    /// @notice Allow somebody to take this token's own tokens.
    function allow(address spender, uint256 amount) external {
        _approve(address(this), spender, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return _hostile(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _spendAllowance(from, msg.sender, amount);
        return _hostile(from, to, amount);
    }

    function _hostile(address from, address to, uint256 amount) private returns (bool) {
        ++moves;
        if (to == denied) revert Denied(to);
        if (_target != address(0)) {
            address target = _target;
            _target = address(0);
            (bool done, bytes memory refusal) = target.call(_call);
            answer = refusal;
            if (!done && !_forgiving) {
                assembly ("memory-safe") {
                    revert(add(refusal, 32), mload(refusal))
                }
            }
        }
        if (mode == Mode.Reverts) revert Denied(from);
        if (mode == Mode.ReturnsFalse) return false;
        if (mode == Mode.SaysYesMovesNothing) return true;
        _transfer(from, to, amount);
        if (mode == Mode.TakesFee || to == taxed) _burn(to, 1);
        if (mode == Mode.TakesTooMuch) _burn(from, 1);
        return mode != Mode.ReturnsFalseButMoves;
    }
}

/// @notice A contract that does not take the chain's coin until told to.
contract Closed {
    bool public open;

    function set(bool open_) external {
        open = open_;
    }

    receive() external payable {
        require(open, "closed");
    }
}

/// @notice A contract that sends the coin on in the same call, and counts how often it was called.
contract Forwarding {
    address payable private immutable _to;
    uint256 public calls;

    constructor(address payable to) {
        _to = to;
    }

    receive() external payable {
        ++calls;
        (bool sent,) = _to.call{value: msg.value}("");
        require(sent, "not sent");
    }
}

/// @notice A token that answers nothing, as tokens older than the standard do: it moves what it is told to, or reverts.
contract Silent {
    mapping(address holder => uint256) public balanceOf;
    mapping(address holder => mapping(address spender => uint256)) public allowance;
    address public denied;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function deny(address holder) external {
        denied = holder;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
    }

    /// @notice Without a signature, so that a test need not make one.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256,
        uint256,
        bytes32,
        uint8,
        bytes32,
        bytes32
    ) external {
        _move(from, to, value);
    }

    function _move(address from, address to, uint256 amount) private {
        require(to != denied, "denied");
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice A receiver of coin that calls back in the middle of it, and takes the coin whatever it is answered.
contract CallsBack {
    address private _target;
    bytes private _call;
    uint256 private _value;
    uint256 public calls;
    bytes public answer;

    function reenter(address target, bytes calldata call_, uint256 value) external {
        (_target, _call, _value) = (target, call_, value);
    }

    receive() external payable {
        ++calls;
        if (_target == address(0)) return;
        address target = _target;
        _target = address(0);
        (, answer) = target.call{value: _value}(_call);
    }
}
