// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {IWatchdog} from "../src/interfaces/IWatchdog.sol";
import {Treasury} from "../src/Treasury.sol";
import {vm} from "./Vm.sol";

/// @notice The cheat codes of halmos that this test uses.
interface Svm {
    function createBytes(uint256 size, string calldata name) external pure returns (bytes memory);
    function createAddress(string calldata name) external pure returns (address);
    function createCalldata(string calldata contract_) external pure returns (bytes memory);
}

/// @notice Answers anything at all, differently each time: whatever the Council, the anchor or the watchdog might say.
contract Anybody {
    Svm private constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    function anchor() external view returns (ILedgerAnchor) {
        return ILedgerAnchor(address(this));
    }

    function retentionEnd() external pure returns (uint64) {
        return 1;
    }

    fallback() external {
        bytes memory answer = svm.createBytes(160, "answer");
        assembly ("memory-safe") {
            return(add(answer, 32), mload(answer))
        }
    }
}

/// @notice Run by halmos, for every call with every argument: what is no execute, refund or pull leaves the coin where it
/// is, whatever the Council, the anchor and the watchdog answer. forge runs none of this.
contract TreasurySymbolic {
    Svm private constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    Treasury private treasury;

    function setUp() public {
        Anybody anybody = new Anybody();
        treasury = new Treasury(ICouncil(address(anybody)), IWatchdog(address(anybody)));
        vm.deal(address(treasury), 1_000);
    }

    function check_only_execute_refund_and_pull_lessen_what_the_treasury_has() external {
        bytes memory data = svm.createCalldata("Treasury");
        bytes4 selector = bytes4(data);
        vm.assume(selector != ITreasury.execute.selector);
        vm.assume(selector != ITreasury.refund.selector);
        vm.assume(selector != ITreasury.pull.selector);
        vm.prank(svm.createAddress("sender"));
        (bool done,) = address(treasury).call(data);
        done;
        assert(address(treasury).balance == 1_000);
    }
}
