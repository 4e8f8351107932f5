// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

interface IToken {
    function approve(address spender, uint256 amount) external returns (bool);
    function transfer(address to, uint256 amount) external returns (bool);
}

/// @notice What an exchange withdraws with: many transfers in one transaction.
contract BatchSender {
    function send(address token, address[] calldata to, uint256[] calldata amounts) external {
        for (uint256 i = 0; i < to.length; ++i) {
            require(IToken(token).transfer(to[i], amounts[i]), "not sent");
        }
    }
}

/// @notice Pays many in the chain's coin, from what it is given.
contract CoinSender {
    function send(address payable[] calldata to, uint256[] calldata amounts) external payable {
        for (uint256 i = 0; i < to.length; ++i) {
            (bool done,) = to[i].call{value: amounts[i]}("");
            require(done, "not sent");
        }
    }
}

/// @notice Two of three owners sign; anybody brings it.
contract Multisig {
    address[3] public owners;
    uint256 public nonce;

    constructor(address[3] memory owners_) {
        owners = owners_;
    }

    function execute(address to, bytes calldata data, uint8[2] calldata v, bytes32[2] calldata r, bytes32[2] calldata s)
        external
    {
        bytes32 digest = keccak256(abi.encode(block.chainid, address(this), nonce++, to, keccak256(data)));
        address first = ecrecover(digest, v[0], r[0], s[0]);
        address second = ecrecover(digest, v[1], r[1], s[1]);
        require(first != second && isOwner(first) && isOwner(second), "not two owners");
        (bool done,) = to.call(data);
        require(done, "refused");
    }

    receive() external payable {}

    /// @notice Send the chain's coin: to whoever is called it is a call within.
    function send(address payable to, uint256 amount, uint8[2] calldata v, bytes32[2] calldata r, bytes32[2] calldata s)
        external
    {
        bytes32 digest = keccak256(abi.encode(block.chainid, address(this), nonce++, to, amount));
        address first = ecrecover(digest, v[0], r[0], s[0]);
        address second = ecrecover(digest, v[1], r[1], s[1]);
        require(first != second && isOwner(first) && isOwner(second), "not two owners");
        (bool done,) = to.call{value: amount}("");
        require(done, "refused");
    }

    /// @notice ERC-1271: r, s, v of two owners, over the hash and this wallet.
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        if (signature.length != 130) return 0xffffffff;
        bytes32 digest = keccak256(abi.encode(block.chainid, address(this), hash));
        address first = _signer(digest, signature[:65]);
        address second = _signer(digest, signature[65:]);
        return first != second && isOwner(first) && isOwner(second) ? this.isValidSignature.selector : bytes4(0xffffffff);
    }

    function _signer(bytes32 digest, bytes calldata signature) private pure returns (address) {
        return ecrecover(digest, uint8(signature[64]), bytes32(signature[:32]), bytes32(signature[32:64]));
    }

    function isOwner(address who) public view returns (bool) {
        return who != address(0) && (who == owners[0] || who == owners[1] || who == owners[2]);
    }
}

/// @notice Takes every signature for its own when it is only asked, and none where gas is paid.
contract TwoFaced {
    constructor(address token, address spender) {
        IToken(token).approve(spender, type(uint256).max);
    }

    /// @notice ERC-1271, which a contract may answer as it likes.
    function isValidSignature(bytes32, bytes calldata) external view returns (bytes4) {
        return tx.gasprice == 0 ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

struct Operation {
    Wallet sender;
    uint256 nonce;
    address to;
    bytes data;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// @notice As in ERC-4337: a bundler brings what owners of smart wallets signed, many at once.
contract EntryPoint {
    event OperationDone(address indexed sender, uint256 nonce, bool done);

    function handle(Operation[] calldata operations) external {
        for (uint256 i = 0; i < operations.length; ++i) {
            operations[i].sender.check(operations[i]);
        }
        for (uint256 i = 0; i < operations.length; ++i) {
            bool done = operations[i].sender.execute(operations[i].to, operations[i].data);
            emit OperationDone(address(operations[i].sender), operations[i].nonce, done);
        }
    }
}

/// @notice A smart wallet that only its entry point drives.
contract Wallet {
    address public immutable entryPoint;
    address public immutable owner;
    uint256 public nonce;

    constructor(address entryPoint_, address owner_) {
        (entryPoint, owner) = (entryPoint_, owner_);
    }

    function check(Operation calldata operation) external {
        require(msg.sender == entryPoint && operation.nonce == nonce++, "not now");
        bytes32 digest =
            keccak256(abi.encode(block.chainid, address(this), operation.nonce, operation.to, keccak256(operation.data)));
        require(ecrecover(digest, operation.v, operation.r, operation.s) == owner, "not the owner");
    }

    function execute(address to, bytes calldata data) external returns (bool done) {
        require(msg.sender == entryPoint, "not the entry point");
        (done,) = to.call(data);
    }
}

/// @notice Says of itself that it moved, and moves nothing.
contract FakeToken {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Paid(bytes32 indexed invoice, address indexed token, uint256 amount, uint256 cityAmount);

    function transfer(address to, uint256 amount) external returns (bool) {
        emit Transfer(msg.sender, to, amount);
        return true;
    }

    function pretend(bytes32 invoice, address token, address treasury, uint256 amount) external {
        emit Paid(invoice, token, amount, amount);
        emit Transfer(msg.sender, treasury, amount);
    }
}

/// @notice Takes the place of an OpenZeppelin token, whose storage begins so, and refuses whom it likes.
contract DenyingToken {
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;
    uint256[20] private _between;
    address public denied;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function deny(address holder) external {
        denied = holder;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        allowance[from][msg.sender] -= amount;
        return _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private returns (bool) {
        require(from != denied && to != denied, "denied");
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
        emit Transfer(from, to, amount);
        return true;
    }
}
